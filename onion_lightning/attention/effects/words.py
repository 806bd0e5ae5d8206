"""Says in words what the interventions found; the page and the terminal show the same sentences."""

import math
from collections.abc import Iterator

from onion_lightning.attention.effects.result import MIN_FOR_P, Effect, SystemEffects

__all__ = ["describe", "finding", "format_controls", "format_nats", "notes"]


VISIBLE = 0.005  # nats; less is shown as 0.00


def finding(effects: SystemEffects, query: str, key: str) -> str:
    """Return one sentence about the layers in which cutting the query's attention to the key matters most."""
    window, effect = effects.strongest_window, effects.largest
    layers = f"layers {window.first} to {window.last}" if window.first < window.last else f"layer {window.first}"
    return f"Cutting the edges from “{query}” to “{key}” in {layers} makes “{query}” {describe(effect)}."


def describe(effect: Effect) -> str:
    """Return an effect as in "1.3 nats less likely (controls: 0.1 ± 0.2; p = 0.02)"."""
    likely = "less" if effect.value >= 0 else "more"
    parts = [f"controls: {format_controls(effect)}"] if effect.mean is not None else []
    parts += [f"p = {effect.p:.2g}"] if effect.p is not None else []
    return f"{format_nats(abs(effect.value))} nats {likely} likely" + (f" ({'; '.join(parts)})" if parts else "")


def format_nats(value: float) -> str:
    """Return nats, or another figure, with two decimal places."""
    text = f"{value:.2f}"
    return text[1:] if text == "-0.00" else text.replace("-", "−")


def format_controls(effect: Effect) -> str:
    """Return the mean and the standard deviation of the controls; empty if there are too few."""
    mean, std = effect.mean, effect.std
    return "" if mean is None or std is None else f"{format_nats(mean)} ± {format_nats(std)}"


def notes(effects: SystemEffects, controls: int) -> Iterator[str]:
    """Yield what must be known about the figures.

    Args:
        controls: number of control spans.
    """
    if controls < MIN_FOR_P:
        yield f"p-values need {MIN_FOR_P} control spans, and this text has {controls}: give a longer text"
    if effects.rounding >= VISIBLE:
        yield (
            f"rounding alone changes the log-probability by {format_nats(effects.rounding)} nats: smaller effects are noise;"
            " --trainer.precision 32-true is exact"
        )
    if effects.replacement is None:
        yield "replacement: no phrase of the list has as many tokens as the key; give --alternatives"
    else:
        yield (
            f"restored: how much the key's residual stream undoes, with “{effects.restored}” in its place, in the last"
            " layer where that is half or more"
        )
    if not math.isnan(effects.rank_correlation):
        yield (
            f"rank correlation between a head's attention to the key and its effect: {format_nats(effects.rank_correlation)}"
            " (1: the map shows what matters; 0: it does not)"
        )
