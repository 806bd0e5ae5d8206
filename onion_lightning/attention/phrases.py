"""Tokenizes a text with character offsets, and finds the characters and tokens of a phrase in it."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from onion_lightning.errors import OnionError

__all__ = ["Phrase", "Token", "find_phrase", "occurrences", "overlapping_tokens", "token_texts", "tokenize"]

STRAIGHT_QUOTES = str.maketrans("“”„‘’‚«»", '"""\'\'\'""')
PUNCTUATION = ".,;:!?()“”\"‘’'"


class Token(NamedTuple):
    """A token and its characters `text[start:end]`. Tokens for the bytes of one character all have its offsets."""

    id: int
    start: int
    end: int


class Phrase(NamedTuple):
    """An occurrence of a phrase in a text.

    Attributes:
        text: the phrase, as written in the text.
        start: index of the first character.
        end: index after the last character.
        first: index of the first token that contains some of its characters.
        stop: index after the last such token.
    """

    text: str
    start: int
    end: int
    first: int
    stop: int


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str, prompt: str = "") -> list[Token]:
    """Return the tokens that the model receives: BOS if its tokenizer adds one, then the prompt, then the text.

    Args:
        prompt: text that precedes `text`. It is tokenized separately, as in training; offsets count from its beginning.

    Raises:
        OnionError: the text is empty, or the tokenizer does not return character offsets.
    """
    if not tokenizer.is_fast:
        raise OnionError(
            "--model.base_model: the tokenizer does not return character offsets; give a model with a fast tokenizer."
        )
    if not text.strip():
        raise OnionError("--text: is empty; give a text that contains both phrases.")
    tokens = [Token(i, 0, 0) for i in tokenizer("").input_ids if i == tokenizer.bos_token_id]
    for part, offset in ((prompt, 0), (text, len(prompt))):
        encoded = tokenizer(
            part, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        spans = encoded["offset_mapping"]
        tokens += [Token(i, a + offset, b + offset) for i, (a, b) in zip(encoded["input_ids"], spans, strict=True)]
    return tokens


def token_texts(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Sequence[Token]) -> list[str]:
    """Return each token's characters, without those that already belong to the token before it.

    A token without characters, such as BOS, is represented by its vocabulary entry.
    """
    texts, previous_end = [], 0
    for token in tokens:
        if token.start == token.end:
            texts.append(str(tokenizer.convert_ids_to_tokens(token.id)))
        else:
            texts.append(text[max(token.start, previous_end) : token.end])
        previous_end = token.end
    return texts


def find_phrase(text: str, tokens: Sequence[Token], wanted: str, flag: str) -> Phrase:
    """Find a phrase in a text. Case and quotation marks must match; white space around the phrase is ignored.

    Args:
        wanted: the phrase; `phrase#2` is its second occurrence.
        flag: flag to name in error messages.

    Raises:
        OnionError: the phrase is empty, does not occur (the message suggests similar ones), or occurs less often.
    """
    phrase, number = wanted, 1
    match = re.fullmatch(r"(?s)(.+)#([0-9]{1,9})", wanted)
    if match and wanted not in text:
        phrase, number = match[1], int(match[2])
    if not phrase.strip():
        raise OnionError(f"{flag} {phrase!r}: is empty; give a phrase from the text.")
    starts = occurrences(text, phrase)
    if not starts:
        raise OnionError(f'{flag} "{phrase}": does not occur in the text{suggestion(text, phrase)}.')
    if not 1 <= number <= len(starts):
        count = "once" if len(starts) == 1 else f"{len(starts)} times"
        raise OnionError(f'{flag} "{wanted}": "{phrase}" occurs {count}; give a number from #1 to #{len(starts)}.')
    start = starts[number - 1] + len(phrase) - len(phrase.lstrip())
    phrase = phrase.strip()
    end = start + len(phrase)
    inside = overlapping_tokens(tokens, start, end)
    if not inside:
        raise OnionError(
            f'{flag} "{phrase}": the tokenizer drops these characters; give a phrase that contains letters.'
        )
    return Phrase(phrase, start, end, inside[0], inside[-1] + 1)


def occurrences(text: str, phrase: str) -> list[int]:
    """Return the index of every occurrence of a phrase, overlapping ones included."""
    return [match.start() for match in re.finditer(f"(?={re.escape(phrase)})", text)]


def overlapping_tokens(tokens: Sequence[Token], start: int, end: int) -> list[int]:
    """Return the indices of the tokens that contain any of the characters `start` to `end - 1`."""
    return [index for index, token in enumerate(tokens) if token.start < end and token.end > start]


def suggestion(text: str, phrase: str) -> str:
    """Return the part of an error message that names the most similar phrases of a text."""
    similar = similar_phrases(text, phrase)
    if not similar:
        return ", and no similar phrase does; copy a phrase from the text"
    return f"; case and quotation marks must match, and the most similar phrases are {', '.join(similar)}"


def similar_phrases(text: str, phrase: str, count: int = 3) -> list[str]:
    """Return the phrases of a text that are most similar to the given one, ignoring case and curly quotes, each quoted."""
    words = list(re.finditer(r"\S+", text))
    size = len(phrase.split())
    candidates: dict[str, str] = {}
    for length in range(max(size - 1, 1), size + 2):
        for index in range(len(words) - length + 1):
            piece = text[words[index].start() : words[index + length - 1].end()]
            for form in (piece.strip(PUNCTUATION), piece):
                candidates.setdefault(normalize(form), form)
    close = difflib.get_close_matches(normalize(phrase), list(candidates), n=count, cutoff=0.5)
    return [f'"{candidates[name]}"' for name in close]


def normalize(phrase: str) -> str:
    """Return a phrase in lower case, with straight quotes and single spaces."""
    return " ".join(phrase.translate(STRAIGHT_QUOTES).lower().split())
