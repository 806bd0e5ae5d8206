"""Bootstrap intervals and paired differences, checked by hand."""

from onion_lightning.evaluation.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap_interval,
    paired_difference,
    per_unit,
)


def test_the_interval_is_a_point_if_all_articles_agree_and_is_not_otherwise():
    assert bootstrap_interval([[2, 2, 2], [1, 1, 1]], per_unit, 0) == (2, 2)
    low, high = bootstrap_interval([[1, 2, 3, 4], [1, 1, 1, 1]], per_unit, 0)
    assert 1 <= low < 2.5 < high <= 4


def test_the_paired_difference_is_per_token_and_negative_if_the_first_system_is_better():
    assert paired_difference([1, 2], [2, 3], [1, 1], 0) == PairedDifference(-1.0, Interval(-1, -1))
    assert paired_difference([1, 1], [2, 4], [1, 3], 0) == PairedDifference(-1.0, Interval(-1, -1))


def test_the_same_seed_returns_the_same_interval():
    samples = [[1, 2, 3, 4, 7], [1, 1, 1, 2, 2]]
    assert bootstrap_interval(samples, per_unit, 0) == bootstrap_interval(samples, per_unit, 0)
    assert bootstrap_interval(samples, per_unit, 0) != bootstrap_interval(samples, per_unit, 1)
