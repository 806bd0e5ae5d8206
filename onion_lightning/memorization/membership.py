"""Measures whether losses tell training articles from held-out ones: AUC, and true positives at 1% false positives."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from onion_lightning.evaluation.bootstrap import Interval, bootstrap_interval

__all__ = ["RESOLVED", "Membership", "auc", "true_positives", "try_membership"]

RESOLVED = 100  # held-out articles; with fewer, a single false positive is more than 1%


class Membership(NamedTuple):
    """How well a score tells members from others, with 95% intervals. The second pair is None with too few others."""

    auc: float
    auc_interval: Interval
    true_positives: float | None
    true_positives_interval: Interval | None


def auc(members: ArrayLike, others: ArrayLike, axis: int = -1) -> Any:
    """Return the probability that a member's score is below that of another article; ties count half (Mann-Whitney)."""
    members, others = np.moveaxis(np.asarray(members), axis, -1), np.moveaxis(np.asarray(others), axis, -1)
    count, rest = members.shape[-1], others.shape[-1]
    ranks = rankdata(np.concatenate([members, others], axis=-1), axis=-1)[..., :count]
    return 1 - (ranks.sum(axis=-1) - count * (count + 1) / 2) / (count * rest)


def true_positives(members: ArrayLike, others: ArrayLike, axis: int = -1) -> Any:
    """Return the share of members below the score that 1% of the others are below (Carlini et al. 2022)."""
    members, others = np.moveaxis(np.asarray(members), axis, -1), np.moveaxis(np.asarray(others), axis, -1)
    allowed = others.shape[-1] // 100
    threshold = np.partition(others, allowed, axis=-1)[..., allowed : allowed + 1]
    return (members < threshold).mean(axis=-1)


def try_membership(members: Sequence[float], others: Sequence[float], seed: int) -> Membership:
    """Try to tell articles by a score that is lower for members.

    Args:
        members: scores of training articles.
        others: scores of held-out articles.
        seed: seed of the bootstrap, which resamples both.
    """
    samples = [members, others]
    found = float(auc(members, others)), bootstrap_interval(samples, auc, seed, paired=False)
    if len(others) < RESOLVED:
        return Membership(*found, None, None)
    rate = float(true_positives(members, others)), bootstrap_interval(samples, true_positives, seed, paired=False)
    return Membership(*found, *rate)
