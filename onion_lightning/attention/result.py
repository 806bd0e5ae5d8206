"""The result of `attend`: the attention maps of one query and key, their statistics, and the ranking of heads."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from onion_lightning.attention.effects.result import SystemEffects
from onion_lightning.attention.maps import AttentionMaps
from onion_lightning.attention.phrases import Phrase, Token
from onion_lightning.attention.statistics import AttentionStatistics, Span, key_span, measure, round_values

__all__ = ["MARK", "AttentionResult"]

MARK = "onion_lightning attend"  # also in the template of the page
MIN_Z = 3.0  # heads with a lower z-score rank after all others, however high their share


@dataclass(frozen=True)
class AttentionResult:
    """Attention from one phrase of a text to an earlier one. A notebook displays it as an interactive page.

    Attributes:
        text: the prompt, if any, followed by the text.
        tokens: tokens of the text.
        token_texts: a readable text for each token.
        query: the phrase that attends.
        key: the phrase that is attended to.
        controls: spans of the key's length that the key is compared with.
        maps: attention maps by system: "base", and "tuned" if the model has adapters.
        effects: what interventions change, by system; empty if they were not made.
        notebook_renderer: returns the HTML that a notebook displays.
    """

    text: str
    tokens: list[Token]
    token_texts: list[str]
    query: Phrase
    key: Phrase
    controls: list[Span]
    maps: dict[str, AttentionMaps]
    effects: dict[str, SystemEffects]
    notebook_renderer: Callable[["AttentionResult"], str] = field(repr=False)

    @property
    def primary(self) -> str:
        """The system that heads are ranked by: "tuned" if the model has adapters, otherwise "base"."""
        return "tuned" if "tuned" in self.maps else "base"

    @cached_property
    def heads(self) -> dict[str, AttentionStatistics]:
        """Statistics of all heads by system; their arrays are (layers, heads)."""
        return {name: self.measure(maps.mean.numpy()) for name, maps in self.maps.items()}

    @cached_property
    def rollout(self) -> dict[str, AttentionStatistics]:
        """Statistics of the attention rollout by system; their arrays are scalars."""
        return {name: self.measure(maps.rollout.mean(0).numpy()) for name, maps in self.maps.items()}

    def measure(self, attention: np.ndarray) -> AttentionStatistics:
        """Return the statistics of the query's attention (..., tokens)."""
        return measure(attention, key_span(self.key), self.controls)

    @cached_property
    def ranking(self) -> list[tuple[int, int]]:
        """All (layer, head), by the size of their effect on the query if it was measured.

        Otherwise by descending key share, those with a z-score above 3 before the others: among many heads with a tiny share,
        some have a high z-score because their controls have even less.
        """
        statistics = self.heads[self.primary]
        shape = statistics.key_share.shape
        if self.effects:
            order = np.argsort(-np.abs(self.effects[self.primary].heads).ravel(), kind="stable")
        else:
            chance = ~(statistics.z_score.ravel() > MIN_Z)  # also where there is no z-score
            order = np.lexsort((-statistics.key_share.ravel(), chance))
        return [(int(index) // shape[1], int(index) % shape[1]) for index in order]

    def to_json(self) -> str:
        """Return the content of `attention.json`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `attention.json` as plain values."""
        content: dict[str, Any] = {
            "written_by": MARK,
            "text": self.text,
            "tokens": [
                token._asdict() | {"text": text} for token, text in zip(self.tokens, self.token_texts, strict=True)
            ],
            "query": self.query._asdict(),
            "key": self.key._asdict(),
            "controls": [list(span) for span in self.controls],
            "systems": {
                name: self.heads[name].to_json() | {"rollout": self.rollout[name].to_json()} for name in self.maps
            },
            "ranking": [{"layer": layer, "head": head} for layer, head in self.ranking],
            "checks": {name: maps.checks._asdict() for name, maps in self.maps.items()},
        }
        if self.effects:
            content["effects"] = {name: effects.to_json() for name, effects in self.effects.items()}
        if "tuned" in self.maps:
            content["tuned_minus_base"] = self.tuned_minus_base()
        return content

    def tuned_minus_base(self) -> dict[str, Any]:
        """Return by how much the adapters change the key share of each head, and of the rollout."""
        return {
            "key": round_values(self.heads["tuned"].key_share - self.heads["base"].key_share),
            "rollout": round_values(self.rollout["tuned"].key_share - self.rollout["base"].key_share),
        }

    def _repr_html_(self) -> str:
        return self.notebook_renderer(self)
