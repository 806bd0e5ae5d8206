"""Measures how strongly one phrase of a text attends to an earlier one, in every layer and head of a model."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onion_lightning.attention.effects.alternatives import find_swaps
from onion_lightning.attention.effects.experiment import EffectSettings, Spans, measure_effects
from onion_lightning.attention.effects.intervention import Swap
from onion_lightning.attention.effects.result import SystemEffects
from onion_lightning.attention.maps import AttentionMaps, decoder_blocks, read_attention
from onion_lightning.attention.page import MAX_VALUES, render_iframe
from onion_lightning.attention.phrases import (
    Phrase,
    Token,
    find_phrase,
    occurrences,
    overlapping_tokens,
    token_texts,
    tokenize,
)
from onion_lightning.attention.result import AttentionResult
from onion_lightning.attention.statistics import Span, control_spans, key_span, measure
from onion_lightning.errors import OnionError

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["attend"]

log = logging.getLogger(__name__)


def attend(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    query: str,
    key: str,
    prompt: str = "",
    effect: EffectSettings | None = None,
) -> AttentionResult:
    """Measure the attention from a phrase of a text to an earlier one, in every layer and head, and whether it matters.

    Args:
        model: a causal language model; it is switched to `eval()` mode. A model with adapters is measured with and without
            them.
        tokenizer: the model's tokenizer.
        text: text that contains both phrases.
        query: the phrase that attends; `phrase#2` is its second occurrence.
        key: the phrase that is attended to; it must occur before the query.
        prompt: text that precedes `text`, such as the prompt of a generated article; phrases may occur in it too.
        effect: interventions that show what the query needs the key for; None for attention alone.

    Raises:
        OnionError: a phrase does not occur, the query does not follow the key, the query is beyond the model's context,
            or the model does not return attention weights.
    """
    from peft import PeftModel  # late: `--help` imports this module

    full_text = prompt + text
    tokens = tokenize(tokenizer, text, prompt)
    query_phrase = find_phrase(full_text, tokens, query, "--query")
    key_phrase = find_phrase(full_text, tokens, key, "--key")
    check_order(full_text, tokens, query_phrase, key_phrase)
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    check_context(query_phrase, language_model.config.max_position_embeddings)
    model.eval()
    controls = control_spans(query_phrase, key_phrase, phrase_tokens(full_text, tokens, query_phrase, key_phrase))
    swaps: dict[str, Swap] = {}
    if effect is not None:
        effect.width(len(decoder_blocks(language_model)))  # raises before anything is computed
        swaps = find_swaps(tokenizer, full_text, prompt, tokens, key_phrase, effect.alternatives)
    maps = read_systems(model, language_model, tokens, query_phrase)
    effects: dict[str, SystemEffects] = {}
    if effect is not None:
        stop = min(query_phrase.stop + effect.tokens, language_model.config.max_position_embeddings)
        ids = [token.id for token in tokens[:stop]]
        spans = Spans(Span(query_phrase.first, query_phrase.stop), key_span(key_phrase), controls)
        effects = read_effects(model, language_model, ids, spans, swaps, effect, maps)
    return AttentionResult(
        text=full_text,
        tokens=tokens,
        token_texts=token_texts(tokenizer, full_text, tokens),
        query=query_phrase,
        key=key_phrase,
        controls=controls,
        maps=maps,
        effects=effects,
        notebook_renderer=render_iframe,
    )


def contexts(model: "PreTrainedModel | PeftModel") -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Return the systems that a model contains, and for each what turns its adapters on or off."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        return {"base": model.disable_adapter, "tuned": nullcontext}
    return {"base": nullcontext}


def read_systems(
    model: "PreTrainedModel | PeftModel", language_model: PreTrainedModel, tokens: Sequence[Token], query: Phrase
) -> dict[str, AttentionMaps]:
    """Return the attention of the query in the base model and, if there are adapters, in the tuned model.

    Args:
        language_model: the model, or the one that its adapters belong to.
    """
    systems = contexts(model)
    # Tokens after the query cannot change its attention, so the forward pass ends with it.
    ids = [token.id for token in tokens[: query.stop]]
    per_token = page_has_room(language_model, query, len(systems))
    log.info("Computing attention over %d tokens (%s).", len(ids), " and ".join(systems))
    maps = {}
    for name, context in systems.items():
        with context():
            maps[name] = read_attention(language_model, ids, slice(query.first, query.stop), per_token)
    return maps


def read_effects(
    model: "PreTrainedModel | PeftModel",
    language_model: PreTrainedModel,
    ids: Sequence[int],
    spans: Spans,
    swaps: dict[str, Swap],
    settings: EffectSettings,
    maps: dict[str, AttentionMaps],
) -> dict[str, SystemEffects]:
    """Return what interventions change in the base model and, if there are adapters, in the tuned model.

    Args:
        language_model: the model, or the one that its adapters belong to.
        ids: token ids up to the last that is measured.
        spans: the query, the key and its controls.
        swaps: phrases that fit in the key's place, and their tokens.
        settings: window and number of tokens.
        maps: attention by system.
    """
    effects = {}
    for name, context in contexts(model).items():
        share = measure(maps[name].mean.numpy(), spans.key, spans.controls).key_share
        with context():
            effects[name] = measure_effects(language_model, ids, spans, swaps, settings, share, name)
    return effects


def page_has_room(model: PreTrainedModel, query: Phrase, systems: int) -> bool:
    """Return whether the page has room for the attention of each query token, in addition to their mean."""
    heads = model.config.num_hidden_layers * model.config.num_attention_heads
    return heads * query.stop * (query.stop - query.first) * systems <= MAX_VALUES


def check_context(query: Phrase, limit: int) -> None:
    if query.stop > limit:
        raise OnionError(
            f'--query "{query.text}": ends at token {query.stop}, beyond the model\'s context of {limit} tokens; give a'
            " shorter text."
        )


def check_order(text: str, tokens: Sequence[Token], query: Phrase, key: Phrase) -> None:
    """Check that the query follows the key, and that the key is more than the first token.

    Raises:
        OnionError: with a later occurrence of the query in its remedy, if there is one.
    """
    if query.first < key.stop:
        raise OnionError(
            f'--query "{query.text}": occurs before the end of --key "{key.text}", but tokens attend only to earlier ones;'
            f" {order_remedy(text, tokens, query, key)}."
        )
    if key.stop == 1:
        raise OnionError(
            f'--key "{key.text}": is the first token of the text, which is excluded as the attention sink; give a later'
            " phrase."
        )


def order_remedy(text: str, tokens: Sequence[Token], query: Phrase, key: Phrase) -> str:
    for number, start in enumerate(occurrences(text, query.text), 1):
        inside = overlapping_tokens(tokens, start, start + len(query.text))
        if min(inside, default=0) >= key.stop:
            return f'give --query "{query.text}#{number}"'
    if query.stop <= key.first:
        return "swap the two, or give a later phrase"
    return "the two overlap: give a later phrase"


def phrase_tokens(text: str, tokens: Sequence[Token], query: Phrase, key: Phrase) -> set[int]:
    """Return the tokens of every occurrence of both phrases."""
    return {
        index
        for phrase in (query, key)
        for start in occurrences(text, phrase.text)
        for index in overlapping_tokens(tokens, start, start + len(phrase.text))
    }
