"""Finds near-duplicates: texts that share most of their sequences of five words.

Candidates come from MinHash and locality-sensitive hashing, and each is verified, so no other pair is reported.
"""

from collections.abc import Iterator

__all__ = ["JACCARD", "near_duplicates"]

JACCARD = 0.7  # shingles that two texts have in common, as a share of all their shingles
WORDS = 5  # in a shingle
PERMUTATIONS = 128
BANDS = 32  # of four values each: of the pairs at the threshold, fewer than two in ten thousand are missed
SEED = 1


def near_duplicates(texts: list[str]) -> list[list[int]]:
    """Group the texts whose sets of word 5-grams have a Jaccard similarity of at least 0.7, with any other of their group.

    Case and spacing are ignored. A text of fewer than five words is a single shingle.

    Returns:
        The indices of the texts of each group of two or more, in increasing order; groups in the order of their first text.
    """
    from rensa import RMinHash, RMinHashLSH  # late: `--help` imports this module's package

    hashes = [set(row) for row in RMinHash.hash_token_sets([shingles(text) for text in texts])]  # 64-bit
    sketches = RMinHash.from_token_sets([shingles(text) for text in texts], PERMUTATIONS, SEED)
    index = RMinHashLSH(JACCARD, PERMUTATIONS, BANDS)
    index.insert_many(sketches)
    parents = list(range(len(texts)))
    for text, candidates in enumerate(index.query_all(sketches)):
        for other in candidates:
            new = other < text and find(parents, other) != find(parents, text)
            if new and jaccard(hashes[other], hashes[text]) >= JACCARD:
                parents[find(parents, text)] = find(parents, other)
    return sorted(groups(parents))


def shingles(text: str) -> list[str]:
    """Return the sequences of five words of a text."""
    words = text.casefold().split()
    return [" ".join(words[at : at + WORDS]) for at in range(max(len(words) - WORDS + 1, 1))]


def jaccard(first: set[int], second: set[int]) -> float:
    return len(first & second) / len(first | second)


def find(parents: list[int], item: int) -> int:
    """Return the representative of an item's group, and shorten the path to it."""
    while parents[item] != item:
        parents[item] = item = parents[parents[item]]
    return item


def groups(parents: list[int]) -> Iterator[list[int]]:
    found: dict[int, list[int]] = {}
    for item in range(len(parents)):
        found.setdefault(find(parents, item), []).append(item)
    yield from (group for group in found.values() if len(group) > 1)
