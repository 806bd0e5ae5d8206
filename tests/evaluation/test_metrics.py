"""Metrics, checked by hand."""

import math

import pytest

from onion_lightning.evaluation.metrics import compute_metrics
from tests.evaluation.conftest import sample, settings


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
