"""How close a continuation is to an article."""

import random

import pytest
import torch
from torchmetrics.functional.text import bleu_score

from onion_lightning.memorization.extraction import NEAR, Hopeless, bleu, compare, longest_run

EOS = 0


def test_bleu_is_the_geometric_mean_of_four_precisions_with_a_brevity_penalty():
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == pytest.approx(1)
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 9]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu([1, 2, 3, 4], [1, 2, 3, 4, 5]) == pytest.approx(2.718281828 ** (1 - 5 / 4))
    assert bleu([1, 1, 1, 1], [1, 2, 3, 4]) == 0
    assert bleu([], [1, 2, 3, 4]) == 0


def changed(truth, share, seed):
    """A text with a share of other tokens, some of them missing."""
    draw = random.Random(seed)
    return [draw.randrange(1, 12) if draw.random() < share else one for one in truth if draw.random() > share / 4]


def test_bleu_is_that_of_torchmetrics():
    for seed in range(40):
        truth = [random.Random(seed).randrange(1, 12) for _ in range(50)]
        written = changed(truth, seed / 80, seed)
        expected = bleu_score([" ".join(map(str, written))], [[" ".join(map(str, truth))]])
        assert bleu(written, truth) == pytest.approx(float(expected), abs=1e-6)


def test_a_continuation_is_ended_only_if_nothing_can_make_it_nearly_verbatim():
    ended = 0
    for seed in range(60):
        truth = [random.Random(seed).randrange(1, 12) for _ in range(50)]
        written = changed(truth, seed / 120, seed)[:50]
        stop = Hopeless([truth, truth], width=2)
        for length in range(1, len(written) + 1):
            rows = torch.tensor([[7, 7, *written[:length]], [7, 7, *truth[:length]]])
            stopped = stop(rows, None).tolist()
            assert not stopped[1]
        assert stopped[0] == (0 in stop.lengths)
        ended += stopped[0]
        if stopped[0]:
            assert bleu(written, truth) <= NEAR
            assert bleu(truth[: stop.lengths[0]], truth, 50 - stop.lengths[0]) == 1
    assert 10 < ended < 60
    assert stop.lengths[0] < 50


def test_the_longest_run_may_be_anywhere_in_both():
    assert longest_run([9, 1, 2, 3, 8], [7, 7, 1, 2, 3, 4]) == 3
    assert longest_run([1] * 300, [1] * 250) == 250  # repeated tokens are not ignored as frequent
    assert longest_run([1], [2]) == 0


def test_a_continuation_is_verbatim_only_if_all_tokens_are_those_of_the_article():
    truth = list(range(1, 61))
    assert compare(truth[:50], truth, 50, EOS).verbatim
    one_off = compare([*truth[:49], 99], truth, 50, EOS)
    assert (one_off.verbatim, one_off.leading, one_off.near) == (False, 49, True)
    assert one_off.bleu > NEAR
    ended = compare([*truth[:10], EOS, *truth[11:50]], truth, 50, EOS)
    assert (ended.verbatim, ended.leading, ended.longest, ended.near, ended.ids) == (False, 10, 10, False, truth[:10])
    skipped = compare(truth[10:60], truth, 50, EOS)  # it jumps ahead, and copies 50 tokens from there
    assert (skipped.leading, skipped.longest) == (0, 50)
