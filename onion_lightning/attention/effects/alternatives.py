"""Phrases to put in the place of the key: those of a list whose tokens are as many as the key's."""

import importlib.resources
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from onion_lightning.attention.effects.intervention import Swap
from onion_lightning.attention.phrases import Phrase, Token, tokenize
from onion_lightning.errors import OnionError

__all__ = ["MOST_ALTERNATIVES", "find_swaps"]

MOST_ALTERNATIVES = 8  # of the list of this package
FLAG = "--alternatives"


def find_swaps(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    prompt: str,
    tokens: Sequence[Token],
    key: Phrase,
    given: Sequence[str] | None,
) -> dict[str, Swap]:
    """Return the phrases that can replace the key without moving any other token, and the tokens of each.

    Args:
        tokenizer: the model's tokenizer.
        text: the prompt, if any, followed by the text.
        prompt: text that was tokenized on its own.
        tokens: tokens of the text.
        key: the phrase to replace.
        given: phrases to use; by default, the first eight that fit in the list of this package.

    Raises:
        OnionError: a given phrase has another number of tokens, or is the key.
    """
    if given is not None:
        return {phrase: required_swap(tokenizer, text, prompt, tokens, key, phrase) for phrase in given}
    swaps: dict[str, Swap] = {}
    for phrase in listed_phrases():
        found = replace(tokenizer, text, prompt, key, phrase)
        if phrase != key.text and fits(tokens, found, key):
            swaps[phrase] = swap(found, key)
        if len(swaps) == MOST_ALTERNATIVES:
            break
    return swaps


def listed_phrases() -> list[str]:
    file = importlib.resources.files("onion_lightning.attention.effects").joinpath("alternatives.txt")
    return file.read_text(encoding="utf-8").splitlines()


def required_swap(
    tokenizer: PreTrainedTokenizerBase, text: str, prompt: str, tokens: Sequence[Token], key: Phrase, phrase: str
) -> Swap:
    found = replace(tokenizer, text, prompt, key, phrase)
    count, wanted = key.stop - key.first + len(found) - len(tokens), key.stop - key.first
    if phrase == key.text:
        raise OnionError(f'{FLAG} "{phrase}": is the key itself; give other phrases.')
    if count != wanted:
        raise OnionError(
            f'{FLAG} "{phrase}": has {count} tokens in this place, and --key "{key.text}" has {wanted}; give phrases of'
            f" {wanted} tokens, or omit the flag."
        )
    if not fits(tokens, found, key):
        raise OnionError(f'{FLAG} "{phrase}": its tokens merge with those around it; give another phrase.')
    return swap(found, key)


def replace(tokenizer: PreTrainedTokenizerBase, text: str, prompt: str, key: Phrase, phrase: str) -> list[int]:
    """Return the token ids of the text with another phrase in the place of the key."""
    changed = text[: key.start] + phrase + text[key.end :]
    border = len(prompt) + (len(changed) - len(text) if key.end <= len(prompt) else 0)
    return [token.id for token in tokenize(tokenizer, changed[border:], changed[:border])]


def fits(tokens: Sequence[Token], found: Sequence[int], key: Phrase) -> bool:
    """Return whether two tokenized texts differ in the key's tokens alone."""
    ids = [token.id for token in tokens]
    same_ends = ids[: key.first] == list(found[: key.first]) and ids[key.stop :] == list(found[key.stop :])
    return len(ids) == len(found) and same_ends


def swap(found: Sequence[int], key: Phrase) -> Swap:
    return Swap(key.first, tuple(found[key.first : key.stop]))
