"""Longest verbatim runs of words, checked by hand and against a plain search."""

import random
import time

from onion_lightning.model.writing.copying import CopiedRun, CopyIndex

CORPUS = [
    "The egg was counted twice, and nobody would ever know why.",
    "An egg is a small, round thing that rolls away.",
]
INDEX = CopyIndex(["First", "Second"], CORPUS)


def test_the_longest_run_and_its_article_are_found_regardless_of_case_and_punctuation():
    assert INDEX.longest("He said A SMALL ROUND THING that stays.") == CopiedRun(5, "Second")
    assert INDEX.longest("so nobody would ever know why; an egg is a") == CopiedRun(5, "First")


def test_runs_of_fewer_than_four_words_count_as_none():
    assert INDEX.longest("nobody would ever say so") == CopiedRun(0, "")
    assert INDEX.longest("") == CopiedRun(0, "")


def test_a_run_does_not_continue_into_the_next_article():
    assert INDEX.longest("ever know why an egg is a small") == CopiedRun(5, "Second")


def test_the_index_agrees_with_a_plain_search():
    draw = random.Random(0)
    corpus = [" ".join(draw.choices("abc", k=30)) for _ in range(20)]
    index = CopyIndex(list(map(str, range(20))), corpus)
    for _ in range(50):
        words = draw.choices("abc", k=25)
        runs = [" ".join(words[i:j]) for i in range(25) for j in range(i + 4, 26)]
        longest = max((len(run.split()) for run in runs if any(run in text for text in corpus)), default=0)
        found = index.longest(" ".join(words))
        assert found.words == longest
        assert any(run in corpus[int(found.headline)] for run in runs if len(run.split()) == longest)


def test_a_thousand_articles_are_searched_in_seven_thousand_within_seconds():
    draw = random.Random(1)
    vocabulary = [f"w{int(draw.paretovariate(0.6)) % 20_000}" for _ in range(50_000)]
    corpus = [" ".join(draw.choices(vocabulary, k=160)) for _ in range(7_000)]
    started = time.perf_counter()
    index = CopyIndex([str(n) for n in range(7_000)], corpus)
    for article in corpus[:1000]:
        assert index.longest(article).words >= 160
    assert time.perf_counter() - started < 30
