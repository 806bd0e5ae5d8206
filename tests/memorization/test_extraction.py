"""How close a continuation is to an article."""

import pytest

from onion_lightning.memorization.extraction import NEAR, bleu, compare, longest_run

EOS = 0


def test_bleu_is_the_geometric_mean_of_four_precisions_with_a_brevity_penalty():
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == pytest.approx(1)
    assert bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 9]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu([1, 2, 3, 4], [1, 2, 3, 4, 5]) == pytest.approx(2.718281828 ** (1 - 5 / 4))
    assert bleu([1, 1, 1, 1], [1, 2, 3, 4]) == 0
    assert bleu([], [1, 2, 3, 4]) == 0


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
