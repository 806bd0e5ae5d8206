"""From a phrase to its place in a text, in characters and in tokens."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from onion_lightning.errors import OnionError

__all__ = ["Phrase", "Token", "covering", "find_phrase", "occurrences", "tokens_of_text"]

STRAIGHT = str.maketrans("“”„‘’‚«»", '"""\'\'\'""')


EDGES = ".,;:!?()“”\"‘’'"


class Token(NamedTuple):
    """A token and its characters `text[start:end]`; the bytes of one character are tokens with the same characters."""

    id: int
    start: int
    end: int


class Phrase(NamedTuple):
    """An occurrence of a phrase.

    Attributes:
        text: as it stands in the text.
        start: first character.
        end: character after the last.
        first: first token that holds some of it.
        stop: token after the last.
    """

    text: str
    start: int
    end: int
    first: int
    stop: int


def tokens_of_text(tokenizer: PreTrainedTokenizerBase, text: str, prompt: str = "") -> list[Token]:
    """The tokens of a text as the model gets them: BOS where it was pretrained with one, prompt, text.

    Args:
        prompt: what the text continues. It is tokenized apart, as in training; characters count from its beginning.

    Raises:
        OnionError: the tokenizer does not tell offsets, or the text is empty.
    """
    if not tokenizer.is_fast:
        raise OnionError(
            "--model.base_model: its tokenizer cannot tell which characters a token covers; take another model."
        )
    if not text.strip():
        raise OnionError("--text: is empty; give the text to look into.")
    opening = [Token(i, 0, 0) for i in tokenizer("").input_ids if i == tokenizer.bos_token_id]
    found: list[Token] = []
    for part, shift in ((prompt, 0), (text, len(prompt))):
        encoded = tokenizer(
            part, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        spans = encoded["offset_mapping"]
        found += [Token(i, a + shift, b + shift) for i, (a, b) in zip(encoded["input_ids"], spans, strict=True)]
    return opening + found


def occurrences(text: str, phrase: str) -> list[int]:
    """Where a phrase begins in a text, as written."""
    return [match.start() for match in re.finditer(f"(?={re.escape(phrase)})", text)]


def find_phrase(text: str, tokens: Sequence[Token], wanted: str, flag: str) -> Phrase:
    """Find a phrase, its case and quotes as written.

    Args:
        wanted: the phrase; `phrase#2` is its second occurrence.
        flag: to name in errors.

    Raises:
        OnionError: it is empty, or does not occur so often; the nearest phrases are named.
    """
    phrase, number = wanted, 1
    match = re.fullmatch(r"(?s)(.+)#([0-9]{1,9})", wanted)
    if match and wanted not in text:
        phrase, number = match[1], int(match[2])
    if not phrase.strip():
        raise OnionError(f"{flag} {phrase!r}: is empty; give a phrase of the text.")
    places = occurrences(text, phrase)
    if not places:
        near = nearest(text, phrase)
        others = f"; the nearest are {', '.join(near)}" if near else "; nothing is like it"
        raise OnionError(f'{flag} "{phrase}": does not occur in the text, case and quotes as written{others}.')
    if not 1 <= number <= len(places):
        raise OnionError(f'{flag} "{wanted}": "{phrase}" occurs {len(places)} times; give #1 to #{len(places)}.')
    start = places[number - 1] + len(phrase) - len(phrase.lstrip())  # white space around it is not asked about
    phrase = phrase.strip()
    end = start + len(phrase)
    inside = covering(tokens, start, end)
    if not inside:
        raise OnionError(f'{flag} "{phrase}": the tokenizer drops these characters; give a phrase of letters.')
    return Phrase(phrase, start, end, inside[0], inside[-1] + 1)


def covering(tokens: Sequence[Token], start: int, end: int) -> list[int]:
    """The tokens that hold some of the characters."""
    return [at for at, token in enumerate(tokens) if token.start < end and token.end > start]


def nearest(text: str, phrase: str, count: int = 3) -> list[str]:
    """Phrases of a text that are most like one, with case and curly quotes left out of account, each in quotes."""
    words = list(re.finditer(r"\S+", text))
    size = len(phrase.split())
    found: dict[str, str] = {}
    for length in range(max(size - 1, 1), size + 2):
        for at in range(len(words) - length + 1):
            piece = text[words[at].start() : words[at + length - 1].end()]
            for form in (piece.strip(EDGES), piece):
                found.setdefault(plain(form), form)
    close = difflib.get_close_matches(plain(phrase), list(found), n=count, cutoff=0.5)
    return [f'"{found[name]}"' for name in close]


def plain(phrase: str) -> str:
    return " ".join(phrase.translate(STRAIGHT).lower().split())
