"""Measures whether a query needs a key: all interventions on the key and on the control spans, in one model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from onion_lightning.attention.effects.gradient import gradient_times_input
from onion_lightning.attention.effects.intervention import Cut, Intervention, Restore, Swap
from onion_lightning.attention.effects.passes import Change, Passes
from onion_lightning.attention.effects.progress import Progress, reporting
from onion_lightning.attention.effects.result import Comparison, SystemEffects, WindowEffect
from onion_lightning.attention.maps import decoder_blocks
from onion_lightning.attention.statistics import Span
from onion_lightning.errors import OnionError

__all__ = ["EffectSettings", "Spans", "measure_effects"]

TOP_HEADS = 5  # heads that are compared with the controls


@dataclass(frozen=True)
class EffectSettings:
    """What `attend` measures beside attention.

    Attributes:
        tokens: how many of the tokens that follow the query are measured, if the text has as many.
        window: layers in a window of attention knockout; None for a sixth of the model's layers.
        alternatives: phrases to put in the key's place; None for those of a list that fit.

    Raises:
        OnionError: a value is out of range.
    """

    tokens: int = 16
    window: int | None = None
    alternatives: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise OnionError(f"--effect_tokens {self.tokens}: must be at least 1.")
        if self.window is not None and self.window < 1:
            raise OnionError(f"--effect_window {self.window}: must be at least 1.")
        if self.alternatives == ():
            raise OnionError("--alternatives []: is empty; give phrases, or omit the flag.")

    def width(self, layers: int) -> int:
        """Return the number of layers in a window.

        Raises:
            OnionError: the model has fewer.
        """
        if self.window is not None and self.window > layers:
            raise OnionError(f"--effect_window {self.window}: must be at most {layers}, the model's number of layers.")
        return self.window or max(1, layers // 6)


class Spans(NamedTuple):
    """Tokens that the interventions are about.

    Attributes:
        query: the query's tokens.
        key: the key's tokens, without the first of the text.
        controls: spans of the key's length, closest in distance first.
    """

    query: Span
    key: Span
    controls: Sequence[Span]


class Experiment:
    """The interventions on a key and its control spans, in one model.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids up to the last that is measured.
        spans: the query, the key and its controls.
        swaps: phrases that fit in the key's place, and their tokens.
        width: layers in a window.
        advance: called after each pass with the number of interventions that it made.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        ids: Sequence[int],
        spans: Spans,
        swaps: dict[str, Swap],
        width: int,
        advance: Callable[[int], None],
    ) -> None:
        self.model = model
        self.ids = ids
        self.query = spans.query
        self.spans = [spans.key, *spans.controls]
        self.swaps = swaps
        self.layers = len(decoder_blocks(model))
        self.windows = [range(first, first + width) for first in range(self.layers - width + 1)]
        self.advance = advance

    @property
    def follows(self) -> bool:
        return len(self.ids) > self.query.stop

    @property
    def count(self) -> int:
        """Number of interventions."""
        heads = self.layers * self.model.config.get_text_config().num_attention_heads
        spans = len(self.spans)
        cuts = (1 + len(self.windows)) * spans + heads + min(TOP_HEADS, heads) * (spans - 1)
        return cuts + spans + (len(self.swaps) + self.layers if self.swaps else 0) * spans

    def measure(self, share: np.ndarray) -> SystemEffects:
        """Make all interventions.

        Args:
            share: attention to the key of each head, (layers, heads).
        """
        passes = Passes(self.model, self.ids, self.query, self.query.first - 1)
        own, following = passes.log_probabilities
        untouched = [own]
        knockout, windows = self.cut_layers(passes)
        heads = self.cut_heads(passes, share.shape)
        top_heads = self.compare_top_heads(passes, heads, share.shape[1])
        del passes  # and with it the keys and values of all earlier tokens
        earliest = min([span.first for span in self.spans] + [swap.first for swap in self.swaps.values()])
        recorded = sorted({token for span in self.spans for token in range(*span)})
        passes = Passes(self.model, self.ids, self.query, earliest, recorded)
        untouched.append(passes.log_probabilities[0])
        values = passes.run([Intervention(zeroed=span) for span in self.spans], self.advance)
        per_phrase = self.replace(passes)
        replaced = [mean_change(changes) for changes in zip(*per_phrase.values(), strict=True)]
        effects = {phrase: changes[0].query for phrase, changes in per_phrase.items()}
        restored = typical(effects)
        restoring = [] if restored is None else self.restore(passes, self.swaps[restored], per_phrase[restored][0])
        del passes
        gradient = gradient_times_input(self.model, self.ids, self.query)
        untouched.append(gradient.log_probability)
        of_heads = np.array([head.query for head in heads]).reshape(share.shape)
        return SystemEffects(
            log_probability=own,
            following_log_probability=following,
            rounding=max(untouched) - min(untouched),
            knockout=knockout,
            windows=windows,
            heads=of_heads,
            top_heads=top_heads,
            values=self.compare(values),
            replacement=self.compare(replaced) if replaced else None,
            phrases=effects,
            restored=restored,
            restoring=restoring,
            gradient_times_input=gradient.times_input,
            rank_correlation=rank_correlation(share, of_heads),
        )

    def compare(self, changes: Sequence[Change]) -> Comparison:
        return Comparison.of(changes, self.follows)

    def cut_layers(self, passes: Passes) -> tuple[Comparison, list[WindowEffect]]:
        """Return the effects of cutting the edges in all layers and in each window."""
        every = [range(self.layers), *self.windows]
        cuts = [Intervention(Cut(span, layers)) for layers in every for span in self.spans]
        changes = batched(passes.run(cuts, self.advance), len(self.spans))
        windows = [
            WindowEffect(window[0], window[-1], self.compare(some))
            for window, some in zip(self.windows, changes[1:], strict=True)
        ]
        return self.compare(changes[0]), windows

    def cut_heads(self, passes: Passes, shape: tuple[int, ...]) -> list[Change]:
        """Return the effect of cutting the edges to the key in each head alone, layer by layer."""
        layers, heads = shape
        cuts = [
            Intervention(Cut(self.spans[0], range(layer, layer + 1), head))
            for layer in range(layers)
            for head in range(heads)
        ]
        return passes.run(cuts, self.advance)

    def compare_top_heads(
        self, passes: Passes, heads: Sequence[Change], per_layer: int
    ) -> list[tuple[int, int, Comparison]]:
        """Return the heads with the largest effects on the query, compared with their effects for the controls."""
        order = sorted(range(len(heads)), key=lambda place: -abs(heads[place].query))[:TOP_HEADS]
        places = [divmod(place, per_layer) for place in order]
        cuts = [
            Intervention(Cut(span, range(layer, layer + 1), head)) for layer, head in places for span in self.spans[1:]
        ]
        changes = passes.run(cuts, self.advance)
        size = len(self.spans) - 1
        return [
            (*place, self.compare([heads[index], *changes[number * size : (number + 1) * size]]))
            for number, (place, index) in enumerate(zip(places, order, strict=True))
        ]

    def replace(self, passes: Passes) -> dict[str, list[Change]]:
        """Return, for each phrase, the effects of its tokens in the place of the key and of each control span."""
        rows = [
            Intervention(swap=one)
            for swap in self.swaps.values()
            for one in (swap, *(Swap(span.first, swap.ids[span.first - span.stop :]) for span in self.spans[1:]))
        ]
        changes = batched(passes.run(rows, self.advance), len(self.spans))
        return dict(zip(self.swaps, changes, strict=True))

    def restore(self, passes: Passes, swap: Swap, replaced: Change) -> list[WindowEffect]:
        """Return how much of a replacement's effect is undone when the stream of the key, or of a control, is restored."""
        rows = [
            Intervention(swap=swap, restore=Restore(span, layer)) for layer in range(self.layers) for span in self.spans
        ]
        undone = [
            Change(*(whole - left for whole, left in zip(replaced, remaining, strict=True)))
            for remaining in passes.run(rows, self.advance)
        ]
        changes = batched(undone, len(self.spans))
        return [WindowEffect(layer, layer, self.compare(some)) for layer, some in enumerate(changes)]


def measure_effects(
    model: PreTrainedModel,
    ids: Sequence[int],
    spans: Spans,
    swaps: dict[str, Swap],
    settings: EffectSettings,
    share: np.ndarray,
    name: str,
) -> SystemEffects:
    """Return the effects of all interventions on the model as it is loaded, quantized, adapters on or off.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids up to the last that is measured.
        spans: the query, the key and its controls.
        swaps: phrases that fit in the key's place, and their tokens.
        settings: window and number of tokens.
        share: attention to the key of each head, (layers, heads).
        name: of the model in the progress lines: base or tuned.

    Raises:
        OnionError: the model does not allow an intervention, or a setting does not fit it.
    """
    width = settings.width(len(decoder_blocks(model)))
    progress = Progress()
    experiment = Experiment(model, ids, spans, swaps, width, progress)
    with reporting(progress, name, experiment.count, len(ids)):
        effects = experiment.measure(share)
    assert progress.done == experiment.count
    return effects


def batched(changes: Sequence[Change], size: int) -> list[list[Change]]:
    return [list(changes[begin : begin + size]) for begin in range(0, len(changes), size)]


def mean_change(changes: Sequence[Change]) -> Change:
    return Change(*(float(np.mean(figures)) for figures in zip(*changes, strict=True)))


def typical(effects: dict[str, float]) -> str | None:
    """Return the phrase with the median effect; the larger of two."""
    ranked = sorted(effects, key=lambda phrase: effects[phrase])
    return ranked[len(ranked) // 2] if ranked else None


def rank_correlation(share: np.ndarray, effects: np.ndarray) -> float:
    """Return Spearman's correlation between the heads' attention to the key and their effect; NaN if either is constant."""
    from scipy.stats import spearmanr  # late: `--help` imports this module

    if np.ptp(share) == 0 or np.ptp(effects) == 0:
        return float("nan")
    return float(spearmanr(share.ravel(), effects.ravel()).statistic)
