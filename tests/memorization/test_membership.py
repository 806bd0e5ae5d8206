"""AUC and true positives, against other ways to compute them."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from onion_lightning.memorization.membership import auc, true_positives, try_membership


def test_the_auc_is_the_share_of_pairs_in_order_and_ties_count_half():
    members, others = [1.0, 2.0, 2.0], [2.0, 3.0]
    assert auc(members, others) == pytest.approx((1 + 1 + 0.5 + 1 + 0.5 + 1) / 6)
    assert auc([1.0], [2.0]) == 1
    assert auc([2.0], [1.0]) == 0
    random = np.random.default_rng(0)
    members, others = random.normal(0, 1, 40).round(1), random.normal(0.5, 1, 30).round(1)
    assert auc(members, others) == pytest.approx(mannwhitneyu(others, members).statistic / (40 * 30))
    both = auc(np.stack([members, members[::-1]]), np.stack([others, others]), axis=-1)
    assert both == pytest.approx([auc(members, others)] * 2)


def test_true_positives_are_counted_below_the_score_that_1_percent_of_the_others_are_below():
    others = np.arange(200.0)  # two of them, 0 and 1, may be taken for members
    assert true_positives([-1.0, 1.5, 2.0, 50.0], others) == 0.5
    assert true_positives(others, others) == 0.01


def test_with_fewer_than_100_held_out_articles_1_percent_is_not_resolved():
    few = try_membership([1.0, 2.0], np.arange(99.0), 1)
    assert few.true_positives is None
    assert few.true_positives_interval is None
    assert try_membership([-1.0, 2.0], np.arange(100.0), 1).true_positives == 0.5


def test_losses_of_articles_that_do_not_differ_give_0_5_and_the_interval_contains_the_auc():
    random = np.random.default_rng(1)
    scores = random.normal(3, 1, 300)
    found = [auc(*np.split(random.permutation(scores), [200])) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)
    one = try_membership(scores[:200], scores[200:] + 0.6, seed=1)
    assert one == try_membership(scores[:200], scores[200:] + 0.6, seed=1)
    assert 0.5 < one.auc_interval.low < one.auc < one.auc_interval.high < 0.8
    # The standard error of an AUC of 0.65 with 200 and 100 articles is about 0.034 (Hanley and McNeil 1982).
    assert (one.auc_interval.high - one.auc_interval.low) / 3.92 == pytest.approx(0.034, abs=0.01)
