"""Metrics, checked by hand."""

import math

import pytest

from onion_lightning.evaluation.metrics import compute_metrics
from tests.evaluation.conftest import sample, settings, with_best_of


def test_loss_rates_and_paired_differences_match_those_computed_by_hand():
    samples = [sample(10, 9, 6, 4, 10), sample(30, 27, 24, 16, 50), sample(9, 8, 7, 5, 12)]
    metrics = compute_metrics(samples, settings(), seed=1)
    base = metrics.systems["base"]
    assert base.values["loss"] == pytest.approx(49 / 25)
    assert base.values["perplexity"] == pytest.approx(math.exp(49 / 25))
    assert base.values["bits_per_byte"] == pytest.approx(49 / 72 / math.log(2))
    assert base.values["eos_rate"] == 1
    assert metrics.systems["tuned"].values["eos_rate"] == pytest.approx(1 / 3)
    pair = metrics.paired["tuned_minus_base"]
    assert pair.difference == pytest.approx((37 - 49) / 25)
    assert -1 <= pair.interval.low <= pair.difference <= pair.interval.high <= -6 / 16
    assert list(base.intervals["perplexity"]) == [math.exp(end) for end in base.intervals["loss"]]
    assert compute_metrics(samples, settings(), seed=1) == metrics


def test_the_best_of_several_has_no_loss_of_its_own_and_is_compared_by_ranks():
    samples = [with_best_of(sample(10, 9, 6, 4, 10), 1, 2), with_best_of(sample(30, 27, 24, 16, 50), 4, 4)]
    metrics = compute_metrics(samples, settings(best_of=8), seed=1)
    best = metrics.systems["best_of"].values
    assert "loss" not in best
    assert best["headline_mrr"] == pytest.approx((1 + 1 / 4) / 2)
    assert (best["seconds"], metrics.systems["tuned"].values["seconds"]) == (4, 1)
    assert "seconds" not in metrics.systems["base"].values
    pair = metrics.paired["best_of_minus_tuned"]
    assert pair.difference == pytest.approx((1 / 2 + 0) / 2)
    assert (pair.interval.low, pair.interval.high) == (0, 0.5)
