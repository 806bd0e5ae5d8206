"""Measures of one article's text: does it end, loop, have the form of a news article, and keep to its headline?"""

import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

__all__ = ["STYLE", "content_words", "distance", "distinct", "is_looping", "measure_text", "recall", "words_of"]

LOOP = 8  # a run of so many words that comes twice
OPENING = 50  # words that distinct-n is taken on: it falls with length, and systems differ in length

WORD = re.compile(r"\w+(?:['’]\w+)*")
SENTENCE = re.compile(r"[.!?]+[\"”’)]*(?=\s|$)")
CAPITAL = "A-ZÀ-ÖØ-Þ"
DATELINE = re.compile(
    rf"[{CAPITAL}][{CAPITAL}.'’ -]+(?:, ?[A-Za-zÀ-ÿ. ]{{2,20}})?(?: ?\([A-Za-z ]+\))?(?:\s*(?:—|–|--)|\s+-\s)"
)
SPEECH = r"(?:said|says|say|told|added|explained|noted|confirmed|announced|remarked|continued|according to)"
QUOTED = r"“[^“”]{8,}”"
SPOKESPERSON = re.compile(rf"{QUOTED}[^“”]{{0,60}}\b{SPEECH}\b|\b{SPEECH}\b[^“”]{{0,60}}{QUOTED}", re.IGNORECASE)
CLOSING = re.compile(r"\b(?:at|as of|by) (?:press time|publication)\b|\bwas last seen\b", re.IGNORECASE)
FUNCTION_WORDS = frozenset(
    "a about after again all also an and any are as at be because been before but by can could did do does for from had"
    " has have he her his how i if in into is it its just may more most my new no not now of off on one only or other our"
    " out over own she should so some still than that the their them then there these they this those to too up us was"
    " we were what when where which while who whose why will with would yet you your".split()
)

STYLE = ("dateline", "spokesperson", "closing_turn", "words_per_sentence", "distinct_1", "distinct_2", "distinct_3")


def words_of(text: str) -> list[str]:
    """Words in lower case, without marks."""
    return WORD.findall(text.lower().replace("’", "'"))


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def is_looping(words: Sequence[str]) -> bool:
    """Whether any run of 8 words comes twice."""
    runs = ngrams(words, LOOP)
    return len(set(runs)) < len(runs)


def distinct(words: Sequence[str], n: int) -> float:
    """Share of n-grams that are different from one another, in the first 50 words (Li et al. 2016); 0 without any."""
    runs = ngrams(words[:OPENING], n)
    return len(set(runs)) / len(runs) if runs else 0.0


def stem(word: str) -> str:
    """A word without its plural or possessive ending, so that "eggs" takes up "egg"."""
    word = word.removesuffix("'s").removesuffix("'")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def content_words(headline: str) -> set[str]:
    """Stems of a headline's words, without function words such as "this", "we'll" and "doesn't"."""
    words = {word for word in words_of(headline) if not word.endswith("n't")}
    return {stem(word) for word in words if word.partition("'")[0] not in FUNCTION_WORDS}


def recall(headline: str, words: Sequence[str]) -> float:
    """Share of the headline's content words that an article takes up; 1 where it has none."""
    wanted = content_words(headline)
    return len(wanted & set(map(stem, words))) / len(wanted) if wanted else 1.0


def words_per_sentence(text: str) -> float:
    """Mean words of a text's sentences. What follows the last one's end was cut, and is left out."""
    ends = [match.end() for match in SENTENCE.finditer(text)]
    return len(words_of(text[: ends[-1]])) / len(ends) if ends else float(len(words_of(text)))


def curly(text: str) -> str:
    """A text with straight double quotes made opening and closing ones, in turn, line by line."""

    def paired(line: str) -> str:
        marks = cycle("“”")
        return re.sub('"', lambda match: next(marks), line)

    return "\n".join(map(paired, text.split("\n")))


def measure_text(headline: str, article: str) -> dict[str, float]:
    """All measures of an article's text. Shares and yes/no are 0 to 1; `words` and `words_per_sentence` are counts."""
    words = words_of(article)
    first_line = article.lstrip().partition("\n")[0]
    ending = " ".join(article.split()[-40:])
    return {
        "words": len(words),
        "loop_rate": is_looping(words),
        "headline_recall": recall(headline, words),
        "dateline": bool(DATELINE.match(first_line)),
        "spokesperson": bool(SPOKESPERSON.search(curly(article))),
        "closing_turn": bool(CLOSING.search(ending)),
        "words_per_sentence": words_per_sentence(article),
        **{f"distinct_{n}": distinct(words, n) for n in (1, 2, 3)},
    }


def distance(card: dict[str, Any], real: dict[str, Any]) -> float:
    """How far a style card lies from that of the real articles, 0 to 1: the mean difference over its entries.

    Shares differ by their difference, words per sentence by |a - b| / max(a, b).
    """
    gaps = [abs(card[name] - real[name]) for name in STYLE if name != "words_per_sentence"]
    a, b = card["words_per_sentence"], real["words_per_sentence"]
    return float(np.mean([*gaps, abs(a - b) / max(a, b, 1e-9)]))
