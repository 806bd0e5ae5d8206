"""What of an article stands word for word in a corpus, by an index of four-word runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onion_lightning.evaluation.style import words_of

__all__ = ["Copied", "CopyIndex"]

UNKNOWN = 2**40  # the id of a word that the corpus lacks
RUN = 4  # shorter runs are everywhere and count as 0
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: word ids are mixed into 64 bits


class Copied(NamedTuple):
    """The longest run of words of an article that stands in the corpus, 0 below four, and where."""

    words: int
    headline: str


class CopyIndex:
    """Finds the longest verbatim run of words. Built once, in O(n log n); an article then takes milliseconds.

    Args:
        headlines: of the corpus.
        articles: of the corpus, in the same order.
    """

    def __init__(self, headlines: Sequence[str], articles: Sequence[str]) -> None:
        self.headlines = list(headlines)
        self.ids: dict[str, int] = {}
        texts = [self.number(words_of(article)) for article in articles]
        self.starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
        # Each article ends with an id of its own, so that no run goes on into the next one.
        ends = range(len(self.ids), len(self.ids) + len(texts))
        parts = [np.append(text, np.uint64(end)) for text, end in zip(texts, ends, strict=True)]
        self.corpus = np.concatenate([np.zeros(0, dtype=np.uint64), *parts])
        keys = run_keys(self.corpus)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def number(self, words: Sequence[str]) -> np.ndarray:
        return np.array([self.ids.setdefault(word, len(self.ids)) for word in words], dtype=np.uint64)

    def longest(self, article: str) -> Copied:
        """The longest run of an article's words in the corpus; the earliest article that has it."""
        words = np.array([self.ids.get(word, UNKNOWN) for word in words_of(article)], dtype=np.uint64)
        keys = run_keys(words)
        left, right = np.searchsorted(self.keys, keys), np.searchsorted(self.keys, keys, side="right")
        best, where = 0, 0
        for at, (first, last) in enumerate(zip(left, right, strict=True)):
            length, place = self.extend(words[at:], self.order[first:last], best)
            if length > best:
                best, where = length, place
        if best == 0:
            return Copied(0, "")
        return Copied(best, self.headlines[int(np.searchsorted(self.starts, where, side="right")) - 1])

    def extend(self, words: np.ndarray, places: np.ndarray, beat: int) -> tuple[int, int]:
        """The longest run that the given words begin at any of the places, and its place; 0 where none beats `beat`."""
        if beat:  # most places fall at the one word that would have to follow
            places = self.going_on(words, places, beat)
        length, found = 0, 0
        while len(places):
            found, length = int(places[0]), length + 1
            places = self.going_on(words, places, length)
        return length, found

    def going_on(self, words: np.ndarray, places: np.ndarray, at: int) -> np.ndarray:
        """Those of the places where the corpus has the same word at an offset."""
        if at >= len(words):
            return places[:0]
        places = places[places + at < len(self.corpus)]
        return places[self.corpus[places + at] == words[at]]


def run_keys(ids: np.ndarray) -> np.ndarray:
    """A 64-bit key for each run of four ids, (words - 3,)."""
    key = np.zeros(max(len(ids) - RUN + 1, 0), dtype=np.uint64)
    for at in range(RUN):
        key = (key + ids[at : at + len(key)] + np.uint64(1)) * MULTIPLIER
        key ^= key >> np.uint64(29)
    return key
