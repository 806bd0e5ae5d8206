"""Statistics of the attention from a query to a key: its share, the shares of control spans, and the z-score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onion_lightning.attention.phrases import Phrase

__all__ = ["MIN_FOR_Z", "AttentionStatistics", "Span", "control_spans", "key_span", "measure", "round_values"]

MAX_CONTROLS = 64
MIN_CONTROLS = 8  # if fewer are at a similar distance, this many of the closest in distance are used
MIN_FOR_Z = 3  # control spans that a z-score needs


class Span(NamedTuple):
    """The tokens `first` to `stop - 1`."""

    first: int
    stop: int


@dataclass(frozen=True)
class AttentionStatistics:
    """Attention from the query to the key: a mean over the query's tokens of a sum over the key's tokens.

    Each array has the shape (layers, heads), or () for the attention rollout.

    Attributes:
        key_share: share of the attention that goes to the key. The first token of the text is never part of the key.
        first_token_share: share that goes to the first token of the text, the attention sink.
        control_mean: mean share of the control spans; NaN with fewer than three of them.
        control_std: standard deviation of these shares.
        z_score: (key_share - control_mean) / control_std; NaN if there is no standard deviation or it is 0.
    """

    key_share: np.ndarray
    first_token_share: np.ndarray
    control_mean: np.ndarray
    control_std: np.ndarray
    z_score: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Return the statistics under the keys of `attention.json`."""
        return {
            "key": round_values(self.key_share),
            "first_token": round_values(self.first_token_share),
            "control_mean": round_values(self.control_mean),
            "control_std": round_values(self.control_std),
            "z": round_values(self.z_score),
        }


def measure(attention: np.ndarray, key: Span, controls: Sequence[Span]) -> AttentionStatistics:
    """Return the statistics of a query's attention (..., tokens)."""
    share = attention[..., key.first : key.stop].sum(-1)
    missing = np.full_like(share, np.nan)
    mean = std = z = missing
    if len(controls) >= MIN_FOR_Z:
        control_shares = np.stack([attention[..., span.first : span.stop].sum(-1) for span in controls])
        mean, std = control_shares.mean(0), control_shares.std(0, ddof=1)
        z = np.divide(share - mean, std, out=np.array(missing), where=std > 0)
    return AttentionStatistics(share, attention[..., 0], mean, std, z)


def key_span(key: Phrase) -> Span:
    """Return the tokens of the key that are measured: all but the first of the text, the attention sink."""
    return Span(max(key.first, 1), key.stop)


def control_spans(query: Phrase, key: Phrase, excluded: set[int]) -> list[Span]:
    """Return spans of the key's length that begin at half to twice the key's distance before the query.

    They are sorted by how close their distance is to the key's, and there are at most 64. If fewer than eight are within
    that range, the eight closest in distance are returned, or as many as there are. The first token of the text is in
    none of them.

    Args:
        excluded: tokens that no control span may contain.
    """
    span = key_span(key)
    size, distance = span.stop - span.first, query.first - span.first
    spans = [Span(start, start + size) for start in range(1, query.first - size + 1)]
    spans = [span for span in spans if excluded.isdisjoint(range(*span))]
    deviation = {span: abs(np.log((query.first - span.first) / distance)) for span in spans}
    spans.sort(key=lambda span: (deviation[span], span.first))
    similar = [span for span in spans if deviation[span] <= np.log(2)]
    return similar[:MAX_CONTROLS] if len(similar) >= MIN_CONTROLS else spans[:MIN_CONTROLS]


def round_values(values: np.ndarray) -> Any:
    """Return an array as (nested lists of) floats with six significant digits; NaN becomes None."""
    values = np.asarray(values, dtype=np.float64)
    rounded = np.frompyfunc(lambda value: None if np.isnan(value) else float(f"{value:.6g}"), 1, 1)(values)
    return rounded.tolist() if isinstance(rounded, np.ndarray) else rounded
