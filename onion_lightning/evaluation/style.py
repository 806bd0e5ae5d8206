"""Measures of a single article: length, repetition, news-article style, and overlap with its headline."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from onion_lightning.model.writing.words import is_looping, ngrams, words_of

__all__ = [
    "STYLE",
    "TextMeasures",
    "content_words",
    "distinct",
    "headline_recall",
    "measure_text",
    "style_distance",
]

DISTINCT_WORDS = 50  # distinct-n decreases with length, and systems differ in length: use the first words only

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

# Fields of `TextMeasures` that describe style.
STYLE = ("dateline", "spokesperson", "closing_turn", "words_per_sentence", "distinct_1", "distinct_2", "distinct_3")


@dataclass(frozen=True)
class TextMeasures:
    """Measures of an article. The fields are the keys of `metrics.json` and `samples.jsonl`.

    Attributes:
        words: number of words.
        loop_rate: whether a run of 8 words occurs twice.
        headline_recall: share of the headline's content words that the article reuses.
        dateline: whether the first line begins with a dateline, such as "TOLEDO, OH—".
        spokesperson: whether a quotation is attributed to a speaker.
        closing_turn: whether the last 40 words contain a stock ending, such as "at press time".
        words_per_sentence: mean sentence length.
        distinct_1: distinct-1 of the first 50 words.
        distinct_2: distinct-2 of the first 50 words.
        distinct_3: distinct-3 of the first 50 words.
    """

    words: int
    loop_rate: bool
    headline_recall: float
    dateline: bool
    spokesperson: bool
    closing_turn: bool
    words_per_sentence: float
    distinct_1: float
    distinct_2: float
    distinct_3: float


def measure_text(headline: str, article: str) -> TextMeasures:
    """Compute all measures of an article."""
    words = words_of(article)
    first_line = article.lstrip().partition("\n")[0]
    ending = " ".join(article.split()[-40:])
    return TextMeasures(
        words=len(words),
        loop_rate=is_looping(words),
        headline_recall=headline_recall(headline, words),
        dateline=bool(DATELINE.match(first_line)),
        spokesperson=bool(SPOKESPERSON.search(curl_quotes(article))),
        closing_turn=bool(CLOSING.search(ending)),
        words_per_sentence=words_per_sentence(article),
        distinct_1=distinct(words, 1),
        distinct_2=distinct(words, 2),
        distinct_3=distinct(words, 3),
    )


def distinct(words: Sequence[str], n: int) -> float:
    """Return distinct-n (Li et al. 2016) of the first 50 words: unique n-grams / n-grams, or 0 if there are none."""
    found = ngrams(words[:DISTINCT_WORDS], n)
    return len(set(found)) / len(found) if found else 0.0


def stem(word: str) -> str:
    """Remove a plural or possessive ending, so that "eggs" matches "egg"."""
    word = word.removesuffix("'s").removesuffix("'")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def content_words(headline: str) -> set[str]:
    """Return the stems of a headline's words, without function words such as "this", "we'll" and "doesn't"."""
    words = {word for word in words_of(headline) if not word.endswith("n't")}
    return {stem(word) for word in words if word.partition("'")[0] not in FUNCTION_WORDS}


def headline_recall(headline: str, words: Sequence[str]) -> float:
    """Return the share of the headline's content words that occur in an article; 1 if the headline has none."""
    wanted = content_words(headline)
    return len(wanted & set(map(stem, words))) / len(wanted) if wanted else 1.0


def words_per_sentence(text: str) -> float:
    """Return the mean sentence length in words. Text after the end of the last complete sentence is ignored."""
    ends = [match.end() for match in SENTENCE.finditer(text)]
    return len(words_of(text[: ends[-1]])) / len(ends) if ends else float(len(words_of(text)))


def curl_quotes(text: str) -> str:
    """Replace straight double quotes by opening and closing quotes, alternating within each line."""

    def curl(line: str) -> str:
        marks = cycle("“”")
        return re.sub('"', lambda match: next(marks), line)

    return "\n".join(map(curl, text.split("\n")))


def style_distance(style: Mapping[str, float], real: Mapping[str, float]) -> float:
    """Return how far the style of a system is from that of the real articles, from 0 to 1: the mean gap over `STYLE`.

    The gap is the absolute difference for shares, and |a - b| / max(a, b) for words per sentence.
    """
    gaps = [abs(style[name] - real[name]) for name in STYLE if name != "words_per_sentence"]
    a, b = style["words_per_sentence"], real["words_per_sentence"]
    return float(np.mean([*gaps, abs(a - b) / max(a, b, 1e-9)]))
