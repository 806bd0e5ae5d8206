"""Near-duplicates."""

import random

from onion_lightning.data.duplicates import JACCARD, jaccard, near_duplicates, shingles
from tests.conftest import sample_rows


def similarity(first: str, second: str) -> float:
    return jaccard(set(map(hash, shingles(first))), set(map(hash, shingles(second))))


def test_articles_that_differ_in_a_few_words_are_one_group():
    texts = [row["Content"] for row in sample_rows()[:60]]
    words = texts[7].split()
    words[20] = "egg"
    texts += [" ".join(words), texts[3].upper() + "\n\nAnd more.", texts[7]]
    assert near_duplicates(texts) == [[3, 61], [7, 60, 62]]


def test_pairs_above_the_threshold_are_found_and_those_below_are_not():
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abcdefghijklmnop", k=60)) for _ in range(100)]
    changed = []
    for at, text in enumerate(texts):
        words = text.split()
        words[: at % 50] = ["egg"] * (at % 50)
        changed.append(" ".join(words))
    expected = [[at, 100 + at] for at in range(100) if similarity(texts[at], changed[at]) >= JACCARD]
    assert 20 < len(expected) < 100
    assert near_duplicates(texts + changed) == expected


def test_different_articles_are_in_no_group():
    assert near_duplicates([row["Content"] for row in sample_rows()]) == []
    assert near_duplicates([]) == []


def test_texts_of_fewer_than_five_words_are_compared_whole():
    assert near_duplicates(["an egg", "a hen", "An  Egg", "", " "]) == [[0, 2], [3, 4]]
