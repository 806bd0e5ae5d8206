"""The effects of interventions, compared with those of the same interventions on control spans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onion_lightning.attention.effects.passes import Change
from onion_lightning.attention.statistics import MIN_FOR_Z, round_values

__all__ = ["MIN_FOR_P", "Comparison", "Effect", "SystemEffects", "WindowEffect"]

MIN_FOR_P = 19  # control spans; with fewer, no p-value could be 0.05


@dataclass(frozen=True)
class Effect:
    """A figure of an intervention on the key, and the same of the control spans, in nats.

    Attributes:
        value: of the key.
        controls: of each control span.
    """

    value: float
    controls: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean of the controls; None with fewer than three."""
        return float(np.mean(self.controls)) if len(self.controls) >= MIN_FOR_Z else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the controls; None with fewer than three."""
        return float(np.std(self.controls, ddof=1)) if len(self.controls) >= MIN_FOR_Z else None

    @property
    def p(self) -> float | None:
        """Rank p-value: how often, among the key and its controls, an effect is at least as large in absolute value.

        None with fewer than 19 controls.
        """
        if len(self.controls) < MIN_FOR_P:
            return None
        larger = sum(abs(one) >= abs(self.value) for one in self.controls)
        return (1 + larger) / (1 + len(self.controls))

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the keys of `attention.json`."""
        figures = (self.value, *(np.nan if one is None else one for one in (self.mean, self.std, self.p)))
        return dict(zip(("effect", "control_mean", "control_std", "p"), round_values(np.array(figures)), strict=True))


@dataclass(frozen=True)
class Comparison:
    """An intervention on the key and on the control spans.

    Attributes:
        query: by how much it makes the query less likely.
        following: by how much it makes what follows the query less likely; None if nothing follows.
        divergence: KL divergence of the next-token distribution after the query.
    """

    query: Effect
    following: Effect | None
    divergence: Effect

    @classmethod
    def of(cls, changes: Sequence[Change], follows: bool) -> "Comparison":
        """Compare the first change, that of the key, with the others.

        Args:
            changes: of the key and of each control span.
            follows: whether tokens follow the query.
        """
        query, following, divergence = (Effect(one[0], one[1:]) for one in zip(*changes, strict=True))
        return cls(query, following if follows else None, divergence)

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the keys of `attention.json`."""
        following = None if self.following is None else self.following.to_json()
        return {"query": self.query.to_json(), "following": following, "kl": self.divergence.to_json()}


@dataclass(frozen=True)
class WindowEffect:
    """An intervention in some layers: a window of attention layers, or from one layer on.

    Attributes:
        first: first of the layers.
        last: last of them.
        effect: of the intervention.
    """

    first: int
    last: int
    effect: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the keys of `attention.json`."""
        return {"first_layer": self.first, "last_layer": self.last} | self.effect.to_json()


@dataclass(frozen=True)
class SystemEffects:
    """All effects in one model, base or tuned.

    Attributes:
        log_probability: of the untouched query, in nats.
        following_log_probability: of the untouched tokens that follow it.
        rounding: by how much the query's differs if it is computed in several ways, in nats; smaller effects are noise.
        knockout: attention from the query to the key cut in all layers.
        windows: the same in each window of layers.
        heads: the same in each head alone, key only; nats of the query, (layers, heads).
        top_heads: layer and head of those with the largest effect on the query, and their comparison with the controls.
        values: the key's value vectors set to zero in all layers.
        replacement: other phrases in the place of the key, mean over the phrases; None if no phrase fits.
        phrases: effect of each phrase on the query.
        restored: phrase that was in the place of the key while its residual stream was restored; None if no phrase fits.
        restoring: for each layer, how much of the replacement's effect is undone by restoring the key's residual stream
            before it; the controls are other spans restored instead.
        gradient_times_input: for each token before the query's last, in nats.
        rank_correlation: Spearman's, between the heads' attention to the key and their effect; NaN if either is constant.
    """

    log_probability: float
    following_log_probability: float
    rounding: float
    knockout: Comparison
    windows: list[WindowEffect]
    heads: np.ndarray
    top_heads: list[tuple[int, int, Comparison]]
    values: Comparison
    replacement: Comparison | None
    phrases: dict[str, float]
    restored: str | None
    restoring: list[WindowEffect]
    gradient_times_input: np.ndarray
    rank_correlation: float

    @property
    def strongest_window(self) -> WindowEffect:
        """The window with the largest effect on the query, in absolute value."""
        return max(self.windows, key=lambda window: abs(window.effect.query.value))

    @property
    def last_restoring(self) -> WindowEffect | None:
        """The last layer before which restoring the key's stream undoes half of a replacement; None without one."""
        if self.restored is None:
            return None
        half = abs(self.phrases[self.restored]) / 2
        undone = [one for one in self.restoring if abs(one.effect.query.value) >= half]
        return (undone or self.restoring)[-1 if undone else 0]

    @property
    def largest(self) -> Effect:
        """The strongest window's effect, compared with each control span's own strongest window.

        The window was chosen because its effect is the largest; so are those that it is compared with.
        """
        controls = np.array([window.effect.query.controls for window in self.windows])  # (windows, controls)
        strongest = np.abs(controls).argmax(0) if controls.size else np.array([], int)
        chosen = controls[strongest, np.arange(len(strongest))] if controls.size else strongest
        return Effect(self.strongest_window.effect.query.value, tuple(float(one) for one in chosen))

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the keys of `attention.json`."""
        return {
            "log_probability": {"query": self.log_probability, "following": self.following_log_probability},
            "rounding": self.rounding,
            "knockout": self.knockout.to_json(),
            "windows": [window.to_json() for window in self.windows],
            "largest_window": self.largest.to_json(),
            "heads": round_values(self.heads),
            "top_heads": [{"layer": layer, "head": head} | one.to_json() for layer, head, one in self.top_heads],
            "value_zeroing": self.values.to_json(),
            "replacement": None if self.replacement is None else self.replacement.to_json(),
            "phrases": self.phrases,
            "restored_phrase": self.restored,
            "restoring": [layer.to_json() for layer in self.restoring],
            "gradient_x_input": round_values(self.gradient_times_input),
            "rank_correlation": round_values(np.array(self.rank_correlation)),
        }
