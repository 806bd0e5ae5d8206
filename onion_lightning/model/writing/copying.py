"""Finds the longest verbatim run of words that an article shares with a corpus, using an index of four-word n-grams."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onion_lightning.model.writing.words import words_of

__all__ = ["COPIED_WORDS", "CopiedRun", "CopyIndex"]

COPIED_WORDS = 12  # a verbatim run of at least this length counts as copied
UNKNOWN = 2**40  # id of every word that is not in the corpus
N = 4  # words per n-gram; shorter runs are common in any text and count as 0
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication is a bijection on 64 bits


class CopiedRun(NamedTuple):
    """The longest run of words shared with the corpus.

    Attributes:
        words: its length, 0 below four words.
        headline: headline of the corpus article that contains it, "" if there is none.
    """

    words: int
    headline: str


class CopyIndex:
    """Searches a corpus for verbatim runs of words. Built once in O(n log n), after which a search takes milliseconds.

    Args:
        headlines: headlines of the corpus.
        articles: articles of the corpus, in the same order.
    """

    def __init__(self, headlines: Sequence[str], articles: Sequence[str]) -> None:
        self.headlines = list(headlines)
        self.ids: dict[str, int] = {}
        texts = [self.word_ids(words_of(article)) for article in articles]
        self.starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
        # A unique id after each article prevents runs from continuing into the next one.
        ends = range(len(self.ids), len(self.ids) + len(texts))
        parts = [np.append(text, np.uint64(end)) for text, end in zip(texts, ends, strict=True)]
        self.corpus = np.concatenate([np.zeros(0, dtype=np.uint64), *parts])
        keys = ngram_keys(self.corpus)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def word_ids(self, words: Sequence[str]) -> np.ndarray:
        return np.array([self.ids.setdefault(word, len(self.ids)) for word in words], dtype=np.uint64)

    def longest(self, article: str) -> CopiedRun:
        """Return the longest run of an article's words in the corpus, and the first corpus article that contains it."""
        words = np.array([self.ids.get(word, UNKNOWN) for word in words_of(article)], dtype=np.uint64)
        keys = ngram_keys(words)
        left, right = np.searchsorted(self.keys, keys), np.searchsorted(self.keys, keys, side="right")
        longest, where = 0, 0
        for at, (first, last) in enumerate(zip(left, right, strict=True)):
            length, position = self.extend(words[at:], self.order[first:last], longest)
            if length > longest:
                longest, where = length, position
        if longest == 0:
            return CopiedRun(0, "")
        return CopiedRun(longest, self.headlines[int(np.searchsorted(self.starts, where, side="right")) - 1])

    def extend(self, words: np.ndarray, positions: np.ndarray, threshold: int) -> tuple[int, int]:
        """Find the longest run at the beginning of `words` that occurs at one of the corpus positions.

        Returns:
            Its length and position; length 0 if no run is longer than `threshold`.
        """
        if threshold:  # check the last word that a longer run needs first: it rules out most positions
            positions = self.matching(words, positions, threshold)
        length, found = 0, 0
        while len(positions):
            found, length = int(positions[0]), length + 1
            positions = self.matching(words, positions, length)
        return length, found

    def matching(self, words: np.ndarray, positions: np.ndarray, offset: int) -> np.ndarray:
        """Return the positions at which corpus and `words` agree at an offset."""
        if offset >= len(words):
            return positions[:0]
        positions = positions[positions + offset < len(self.corpus)]
        return positions[self.corpus[positions + offset] == words[offset]]


def ngram_keys(ids: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each four-word n-gram, (words - 3,)."""
    key = np.zeros(max(len(ids) - N + 1, 0), dtype=np.uint64)
    for at in range(N):
        key = (key + ids[at : at + len(key)] + np.uint64(1)) * MULTIPLIER
        key ^= key >> np.uint64(29)
    return key
