"""Articles that are nearly the same."""

import random

import pytest

from onion_lightning.data.duplicates import SIMILAR, jaccard, near_duplicates, runs

WORDS = [f"word{number}" for number in range(3000)]


def text(seed, count=100):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def altered(original, words):
    """A text with this many words replaced, far from one another."""
    found = original.split()
    for at in range(words):
        found[at * 10 + 5] = f"other{at}"
    return " ".join(found)


@pytest.mark.parametrize(("words", "near"), [(1, True), (2, True), (3, True), (5, False), (8, False)])
def test_texts_are_near_duplicates_above_the_threshold(words, near):
    texts = [text(seed) for seed in range(50)]
    copies = [altered(one, words) for one in texts]
    similar = jaccard(set(runs(texts[0])), set(runs(copies[0]))) >= SIMILAR
    assert similar == near
    groups = near_duplicates(texts + copies)
    assert groups == ([[at, at + 50] for at in range(50)] if near else [])


def test_case_and_short_texts_are_compared_too():
    assert near_duplicates(["An egg", "an EGG", "A dog"]) == [[0, 1]]
    assert near_duplicates([]) == near_duplicates(["An egg"]) == []


def test_a_group_has_all_texts_that_are_near_one_of_them():
    texts = [altered(text(1), words) for words in range(5)] + [text(2)]
    assert near_duplicates(texts) == [[0, 1, 2, 3, 4]]
