"""Finds articles that are nearly the same: MinHash over runs of five words, and a check of every pair that it proposes.

Source: Broder 1997; Lee et al. 2022 (deduplicating training data).
"""

from collections.abc import Callable, Sequence

import numpy as np
import rensa

from onion_lightning.data.cleaning.words import split_words

__all__ = ["BANDS", "band_keys", "group_rows", "near_duplicates"]

RUN = 5  # words
SIMILAR = 0.7  # Jaccard similarity of the sets of runs
BANDS, ROWS = 24, 4  # at a similarity of 0.7, a pair is proposed with probability 1 - (1 - 0.7**4)**24 = 0.9986
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], dtype=np.uint64)


def runs(text: str) -> list[str]:
    """Return all runs of five words of a text; the whole text if it is shorter."""
    words = split_words(text)
    return list(map(" ".join, zip(*(words[start:] for start in range(RUN)), strict=False))) or [" ".join(words)]


def band_keys(texts: Sequence[str]) -> np.ndarray:
    """Return keys of which two similar texts share at least one, int32, (texts, BANDS)."""
    digests = rensa.RMinHash.digests_from_token_sets(list(map(runs, texts)), BANDS * ROWS, 42)
    values = np.array(digests, dtype=np.uint64).reshape(len(texts), BANDS, ROWS)
    return ((values * MIX).sum(axis=2) >> np.uint64(32)).astype(np.uint32).view(np.int32)


def group_rows(bands: np.ndarray, fetch: Callable[[list[int]], list[str]]) -> np.ndarray:
    """Return for each text the first one of its group, (texts,); itself if nothing is similar to it.

    Groups are transitive: of three texts, the first and the third may be less similar than `SIMILAR`.

    Args:
        bands: of `band_keys`, (texts, BANDS).
        fetch: returns the texts at the given positions.
    """
    group = np.arange(len(bands))
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        same = np.flatnonzero(band[order[1:]] == band[order[:-1]])
        pairs = [(int(order[at]), int(order[at + 1])) for at in same]
        pairs = [(a, b) for a, b in pairs if find(group, a) != find(group, b)]
        for a, b in similar_pairs(pairs, fetch):
            a, b = find(group, a), find(group, b)
            group[max(a, b)] = min(a, b)
    return np.array([find(group, at) for at in range(len(group))], dtype=np.int64)


def find(group: np.ndarray, at: int) -> int:
    """Return the first text of a group, and shorten the path to it."""
    while group[at] != at:
        group[at] = group[group[at]]
        at = int(group[at])
    return at


def similar_pairs(
    pairs: list[tuple[int, int]], fetch: Callable[[list[int]], list[str]], most: int = 5000
) -> list[tuple[int, int]]:
    """Return the pairs of texts that are similar. `most` pairs are in memory at a time."""
    found = []
    for start in range(0, len(pairs), most):
        part = pairs[start : start + most]
        places = sorted({at for pair in part for at in pair})
        sets = {at: set(runs(text)) for at, text in zip(places, fetch(places), strict=True)}
        found += [(a, b) for a, b in part if jaccard(sets[a], sets[b]) >= SIMILAR]
    return found


def jaccard(first: set[str], second: set[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def near_duplicates(texts: list[str]) -> list[list[int]]:
    """Return the groups of texts that are nearly the same, as positions; texts without a near-duplicate are in none."""
    if not texts:
        return []
    group = group_rows(band_keys(texts), lambda places: [texts[at] for at in places])
    members: dict[int, list[int]] = {}
    for at, first in enumerate(group.tolist()):
        members.setdefault(first, []).append(at)
    return [places for places in members.values() if len(places) > 1]
