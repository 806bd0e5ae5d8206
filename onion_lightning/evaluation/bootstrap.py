"""Bootstrap confidence intervals over articles, for single metrics and for paired differences between systems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

__all__ = ["RESAMPLES", "Interval", "PairedDifference", "bootstrap_interval", "paired_difference", "per_unit"]

RESAMPLES = 2000


class Interval(NamedTuple):
    """A 95% confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """A mean of one system minus that of another on the same headlines, such as the loss per token on the same tokens."""

    difference: float
    interval: Interval


def per_unit(losses: ArrayLike, units: ArrayLike, axis: int = -1) -> Any:
    """Return the summed losses divided by the summed units (tokens or bytes): a mean over units, not over articles."""
    return np.sum(losses, axis=axis) / np.sum(units, axis=axis)


def bootstrap_interval(
    samples: Sequence[ArrayLike], statistic: Callable[..., Any], seed: int, paired: bool = True
) -> Interval:
    """Return the 95% percentile bootstrap interval of a statistic over articles (Efron 1979).

    Args:
        samples: arrays of shape (articles,).
        statistic: function of such arrays that accepts `axis`.
        seed: seed of the resampling; the same seed returns the same interval.
        paired: whether the arrays describe the same articles, which are resampled together.
    """
    result = bootstrap(
        [np.asarray(sample, dtype=float) for sample in samples],
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_difference(first: ArrayLike, second: ArrayLike, tokens: ArrayLike, seed: int) -> PairedDifference:
    """Compare two systems by a measure of the same articles, such as their losses.

    Args:
        first: the measure of one system, such as summed losses in nats, (articles,).
        second: that of the other system.
        tokens: what the sum of the differences is divided by, such as the number of tokens of each article.
        seed: seed of the bootstrap.
    """
    gap = np.asarray(first) - np.asarray(second)
    return PairedDifference(float(per_unit(gap, tokens)), bootstrap_interval([gap, tokens], per_unit, seed))
