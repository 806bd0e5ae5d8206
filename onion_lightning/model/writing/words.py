"""Splits texts into words, and finds loops."""

import re
from collections.abc import Sequence

__all__ = ["is_looping", "ngrams", "words_of"]

LOOP = 8  # an article is repetitive if a run of this many words occurs twice

WORD = re.compile(r"\w+(?:['’]\w+)*")


def words_of(text: str) -> list[str]:
    """Split a text into lowercase words without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def is_looping(words: Sequence[str]) -> bool:
    """Return whether any run of 8 words occurs twice."""
    runs = ngrams(words, LOOP)
    return len(set(runs)) < len(runs)
