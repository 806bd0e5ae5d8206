"""Finds what a site adds to its articles by repetition: lines, labels ("Read more: ...") and ends of headlines.

Texts are compared by 64-bit keys, so that those of a million rows fit in memory.
"""

import re
from collections.abc import Iterator, Set
from typing import NamedTuple

import numpy as np

from onion_lightning.seeding import hash64

__all__ = ["ArticleKeys", "article_keys", "find_repeated", "headline_keys", "remove_lines", "remove_site_name"]

ROWS, SHARE = 5, 0.005  # repeated is what is in so many different rows, and in more than this share of all
CONTEXT = 3
LONGEST = 1000  # characters of a line that is compared
LABELED = 25  # words of a line with a label
LIST = 4  # lines with a label are a list
DIGITS = re.compile(r"\d+")
LABEL = re.compile(r"([^\W\d_][^:\n]{2,40}):(?:\s|$)")
SITE = re.compile(r"(?P<rest>.*\S)\s+(?:[-–—|·»]|::)\s+(?P<name>[^-–—|·»]*[^\W\d_]{3}[^-–—|·»]*)$")
SITE_WORDS = 5
LONGEST_HEADLINE = 500  # characters; a longer one is a whole article


class ArticleKeys(NamedTuple):
    """Keys of an article.

    Attributes:
        lines: of its lines and of their labels.
        longest: of its `CONTEXT` longest lines, which tell it from others; 0 where there are fewer.
    """

    lines: list[int]
    longest: list[int]


def article_keys(article: str) -> ArticleKeys:
    """Return the keys by which lines are counted. An article of one line has no context, and is not compared."""
    lines = article.split("\n")
    if len(lines) < 2:
        return ArticleKeys([], [0] * CONTEXT)
    exact = {line: line_key(line) for line in lines}
    keys = {key for key in (*exact.values(), *label_keys(lines)) if key is not None}
    longest = [exact[line] or 0 for line in sorted(exact, key=len, reverse=True)[:CONTEXT]]
    return ArticleKeys(sorted(keys), longest + [0] * (CONTEXT - len(longest)))


def line_key(line: str) -> int | None:
    """Return the key of a line, without case and numbers; None for one that is never boilerplate, such as "No."."""
    text = DIGITS.sub("0", line.casefold().strip())
    words = sum(map(str.isalpha, text)) >= 3 and (" " in text or text[-1:].isalnum())
    return hash64(text) if words and len(text) <= LONGEST else None


def label_keys(lines: list[str]) -> list[int | None]:
    """Return the key of the label of each line ("Read more: ..."), or None.

    The first line has none (a dateline may end in a colon), nor do labels that occur twice in the article (speakers), or
    all labels if there are many ("Step 1: ...").
    """
    labels = [None if at == 0 else label_of(line) for at, line in enumerate(lines)]
    if len(labels) - labels.count(None) >= LIST:
        return [None] * len(lines)
    return [hash64(f"{one}:") if one is not None and labels.count(one) == 1 else None for one in labels]


def label_of(line: str) -> str | None:
    match = LABEL.match(line.strip())
    if match is None or len(match[1].split()) > 4 or len(line.split()) > LABELED:
        return None
    return match[1].casefold()


def headline_keys(headline: str) -> list[int]:
    """Return the keys of the last parts of a headline: of "Man Sits - Local - The Bugle", "The Bugle" and "Local"."""
    return [hash64(name.casefold()) for _, name in site_names(headline)]


def site_names(headline: str) -> Iterator[tuple[str, str]]:
    """Yield what remains of a headline and its last part, repeatedly."""
    while (
        len(headline) <= LONGEST_HEADLINE
        and (match := SITE.match(headline))
        and len(match["name"].split()) <= SITE_WORDS
    ):
        headline = match["rest"]
        yield headline, match["name"].strip()


def find_repeated(keys: np.ndarray, counts: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Return the keys that are in many different rows.

    Rows with the same context are copies of one article, which share all their lines, and count once.

    Args:
        keys: of all rows, one row after another, (keys,).
        counts: number of keys of each row, (rows,).
        contexts: keys that tell a row from others, (rows, contexts).
    """
    least = max(ROWS, int(len(counts) * SHARE) + 1)
    distinct, count = np.unique(keys, return_counts=True)
    candidates = np.flatnonzero(np.isin(keys, distinct[count >= least]))
    found, others = keys[candidates], contexts[np.repeat(np.arange(len(counts)), counts)[candidates]]
    context = np.where(others == found[:, None], 0, others).sum(axis=1)  # without the line itself; int64 wraps around
    pairs = np.unique(np.stack([found, context], axis=1), axis=0)  # (distinct pairs, 2)
    distinct, count = np.unique(pairs[:, 0], return_counts=True)
    return distinct[count >= least]


def remove_lines(article: str, repeated: Set[int]) -> str:
    """Remove the lines that are repeated, and those with a repeated label."""
    lines = article.split("\n")
    if not repeated or len(lines) < 2:
        return article
    labels = label_keys(lines)
    kept = [
        line
        for line, label in zip(lines, labels, strict=True)
        if line_key(line) not in repeated and label not in repeated
    ]
    return article if len(kept) == len(lines) else "\n".join(kept)


def remove_site_name(headline: str, repeated: Set[int]) -> str:
    """Remove the last parts of a headline that are repeated."""
    for rest, name in site_names(headline) if repeated else ():
        if hash64(name.casefold()) not in repeated:
            break
        headline = rest
    return headline
