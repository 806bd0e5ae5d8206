"""Which tokens attend to which, phrase to phrase: `attend` answers in figures, a page and a picture."""

import contextlib
import html
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onion_lightning.attention.maps import Maps, read_attention
from onion_lightning.attention.phrases import Phrase, Token, covering, find_phrase, occurrences, tokens_of_text
from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import use_fast_8bit

__all__ = ["AttentionAnswer", "Figures", "Span", "attend"]

log = logging.getLogger(__name__)

CONTROLS = 64  # spans that a key is compared with, at most
FEWEST = 8  # with fewer at a similar distance, the nearest in distance are taken
LEAST = 0.01  # of the attention: a head that gives the key less ranks after those that give more
ROOM = 3_000_000  # numbers of the maps that are kept for the page


class Span(NamedTuple):
    """Tokens from `first` to before `stop`."""

    first: int
    stop: int


class Figures(NamedTuple):
    """Attention from the query to the key; (layers, heads), or () for rollout. Mean over query tokens, sum over key tokens.

    Attributes:
        key: share of the attention that goes to the key's tokens; the text's first token is never counted in it.
        first_token: share that goes to the text's first token, the attention sink.
        control_mean: mean of the same for the control spans.
        control_std: their standard deviation.
        z: (key - control_mean) / control_std; NaN with fewer than three controls or none that differ.
    """

    key: np.ndarray
    first_token: np.ndarray
    control_mean: np.ndarray
    control_std: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class AttentionAnswer:
    """What `attend` found. In a notebook it shows itself as a page.

    Attributes:
        text: prompt and text.
        tokens: of the text.
        words: what each token is called; its characters where it has any of its own.
        query: the phrase that attends.
        key: the phrase that is attended to.
        controls: spans of the key's length that it is compared with.
        maps: for "base", and "tuned" where the model has adapters.
    """

    text: str
    tokens: list[Token]
    words: list[str]
    query: Phrase
    key: Phrase
    controls: list[Span]
    maps: dict[str, Maps]

    @property
    def shown(self) -> str:
        """The system that is asked about: tuned, where there is one."""
        return "tuned" if "tuned" in self.maps else "base"

    @cached_property
    def heads(self) -> dict[str, Figures]:
        """For each system its figures, each (layers, heads)."""
        return {name: self.measure(maps.phrase.numpy()) for name, maps in self.maps.items()}

    @cached_property
    def rollout(self) -> dict[str, Figures]:
        """For each system the figures of the attention rollout through all layers."""
        return {name: self.measure(maps.rollout.mean(0).numpy()) for name, maps in self.maps.items()}

    def measure(self, attention: np.ndarray) -> Figures:
        """Figures of attention (..., tokens)."""
        return measure(attention, Span(max(self.key.first, 1), self.key.stop), self.controls)

    @cached_property
    def ranking(self) -> list[tuple[int, int]]:
        """All (layer, head), counted from 0: by z-score, first those that give the key 1% of their attention or more."""
        figures = self.heads[self.shown]
        z = np.nan_to_num(figures.z, nan=-np.inf)
        order = np.lexsort((-figures.key.ravel(), -z.ravel(), figures.key.ravel() < LEAST))
        return [(int(at) // z.shape[1], int(at) % z.shape[1]) for at in order]

    def figures(self) -> dict[str, Any]:
        """All figures as plain values, as `attention.json` holds them."""
        systems = {name: as_plain(self.heads[name]) | {"rollout": as_plain(self.rollout[name])} for name in self.maps}
        figures: dict[str, Any] = {
            "text": self.text,
            "tokens": [token._asdict() | {"text": word} for token, word in zip(self.tokens, self.words, strict=True)],
            "query": self.query._asdict(),
            "key": self.key._asdict(),
            "controls": [list(span) for span in self.controls],
            "systems": systems,
            "ranking": [{"layer": layer, "head": head} for layer, head in self.ranking],
            "checks": {name: maps.checks._asdict() for name, maps in self.maps.items()},
        }
        if "tuned" in self.maps:
            figures["tuned_minus_base"] = {
                "key": rounded(self.heads["tuned"].key - self.heads["base"].key),
                "rollout": rounded(self.rollout["tuned"].key - self.rollout["base"].key),
            }
        return figures

    def json(self) -> str:
        return json.dumps(self.figures(), ensure_ascii=False, allow_nan=False) + "\n"

    def _repr_html_(self) -> str:
        from onion_lightning.attention.page import render_attention

        page = html.escape(render_attention(self), quote=True)
        style = "width: 100%; height: 52rem; border: 0"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def attend(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    query: str,
    key: str,
    prompt: str = "",
) -> AttentionAnswer:
    """How much a phrase of a text attends to an earlier one, in each layer and head.

    Args:
        model: a causal language model, which is put into `eval()`. With adapters, both are read: with and without them.
        text: to look into.
        query: the phrase that attends; `phrase#2` is its second occurrence.
        key: the phrase that is attended to, before the query.
        prompt: what the text continues; phrases are looked for in it too.

    Raises:
        OnionError: a phrase does not occur, the query does not come after the key, or the text is too long.
    """
    whole = prompt + text
    tokens = tokens_of_text(tokenizer, text, prompt)
    asked, given = find_phrase(whole, tokens, query, "--query"), find_phrase(whole, tokens, key, "--key")
    check_order(whole, tokens, asked, given)
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    limit = language_model.config.max_position_embeddings
    if asked.stop > limit:
        raise OnionError(
            f'--query "{query}": ends at token {asked.stop} of the text, and the model sees {limit}; give a shorter text.'
        )
    model.eval()
    use_fast_8bit(model)
    # What comes after the query is not seen by it: the pass can end there.
    ids, rows = [token.id for token in tokens[: asked.stop]], slice(asked.first, asked.stop)
    systems: dict[str, contextlib.AbstractContextManager[Any]] = {"base": contextlib.nullcontext()}
    if isinstance(model, PeftModel):
        systems = {"base": model.disable_adapter(), "tuned": contextlib.nullcontext()}
    each = room_for_each(language_model, rows, len(systems))
    maps = {}
    log.info("Reading the attention of %d tokens, %s.", len(ids), " and ".join(systems))
    for name, as_system in systems.items():
        with as_system:
            maps[name] = read_attention(language_model, ids, rows, each)
    others = repeats(whole, tokens, asked, given)
    controls = control_spans(asked, given, others)
    words = [word_of(tokenizer, whole, tokens, at) for at in range(len(tokens))]
    return AttentionAnswer(whole, tokens, words, asked, given, controls, maps)


def check_order(text: str, tokens: Sequence[Token], query: Phrase, key: Phrase) -> None:
    if query.first >= key.stop:
        if key.stop == 1:
            raise OnionError(
                f'--key "{key.text}": is the text\'s first token, which is kept apart; give a later phrase.'
            )
        return
    starts = occurrences(text, query.text)
    firsts = [min(covering(tokens, start, start + len(query.text)), default=0) for start in starts]
    later = [number for number, first in enumerate(firsts, 1) if first >= key.stop]
    if later:
        remedy = f'give --query "{query.text}#{later[0]}"'
    elif query.stop <= key.first:
        remedy = "exchange the two, or give a later phrase"
    else:
        remedy = "the two overlap: give a later phrase"
    raise OnionError(
        f'--query "{query.text}": stands before the end of --key "{key.text}", and a token attends to earlier ones only;'
        f" {remedy}."
    )


def room_for_each(model: PreTrainedModel, rows: slice, systems: int) -> bool:
    """Whether the maps of each query token have room beside those of the phrase."""
    config = model.config
    return (
        config.num_hidden_layers * config.num_attention_heads * rows.stop * (rows.stop - rows.start) * systems <= ROOM
    )


def repeats(text: str, tokens: Sequence[Token], query: Phrase, key: Phrase) -> set[int]:
    """Tokens of every occurrence of both phrases: none of them can be a control."""
    found: set[int] = set()
    for phrase in (query, key):
        for start in occurrences(text, phrase.text):
            end = start + len(phrase.text)
            found |= {at for at, token in enumerate(tokens) if token.start < end and token.end > start}
    return found


def control_spans(query: Phrase, key: Phrase, taken: set[int]) -> list[Span]:
    """Spans before the query, of the key's length and at a distance of half to twice the key's, nearest to it first.

    With fewer than eight of them, the eight that are nearest in distance. The text's first token and other occurrences of
    the phrases are left out.
    """
    first = max(key.first, 1)
    size, distance = key.stop - first, query.first - first
    spans = [Span(at, at + size) for at in range(1, query.first - size + 1)]
    spans = [span for span in spans if taken.isdisjoint(range(*span))]
    off = {span: abs(np.log((query.first - span.first) / distance)) for span in spans}
    spans.sort(key=lambda span: (off[span], span.first))
    similar = [span for span in spans if off[span] <= np.log(2)]
    return similar[:CONTROLS] if len(similar) >= FEWEST else spans[:FEWEST]


def measure(attention: np.ndarray, key: Span, controls: Sequence[Span]) -> Figures:
    """Figures of attention (..., tokens) from a query."""
    mass = attention[..., key.first : key.stop].sum(-1)
    nothing = np.full_like(mass, np.nan)
    mean = std = z = nothing
    if len(controls) >= 3:
        others = np.stack([attention[..., span.first : span.stop].sum(-1) for span in controls])  # (controls, ...)
        mean, std = others.mean(0), others.std(0, ddof=1)
        z = np.divide(mass - mean, std, out=np.array(nothing), where=std > 0)
    return Figures(mass, attention[..., 0], mean, std, z)


def word_of(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Sequence[Token], at: int) -> str:
    """What to call a token: its characters, without those that an earlier token of the same character has."""
    token = tokens[at]
    if token.start == token.end:
        return str(tokenizer.convert_ids_to_tokens(token.id))
    begin = max(token.start, tokens[at - 1].end) if at else token.start
    return text[begin : token.end]


def rounded(values: np.ndarray) -> Any:
    """Plain values to six significant digits; null for what is not a number."""
    values = np.asarray(values, dtype=np.float64)
    short = np.frompyfunc(lambda value: None if np.isnan(value) else float(f"{value:.6g}"), 1, 1)(values)
    return short.tolist() if isinstance(short, np.ndarray) else short


def as_plain(figures: Figures) -> dict[str, Any]:
    return {name: rounded(value) for name, value in figures._asdict().items()}
