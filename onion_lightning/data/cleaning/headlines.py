"""Compares headlines, and removes a headline from the start of its own article."""

import re
import unicodedata

from onion_lightning.data.cleaning.words import fold_words, starts_with_words

__all__ = ["drop_repeated_headline", "headline_key"]

QUOTES = str.maketrans("‘’“”", "''\"\"")
EDGES = " .,:;!?"  # not compared at the edges of a headline
BREAK = re.compile(r" *[\n:|–—]| - |\. | ?[A-Z]{2,}[^a-z]")
LINE_END = re.compile(r"[^\w\n]*(?:\n|$)")
MARK = re.compile(r"[^\w\s]*[.!?…][^\w\s]*$")
LONGEST_MARK = 20  # characters
SHORTEST = 4  # words of a headline that is found within a line


def drop_repeated_headline(headline: str, article: str) -> str:
    """Remove the headline from the start of the article, as many times as it is repeated there.

    Words are compared, without case and punctuation, over line ends. A repeat ends with its line, or, if it has at least
    four words, with the headline's own mark, punctuation or a dateline: "Area Man Wins Vote: A man", "Area Man Wins Vote
    TOLEDO, OH—". A sentence that merely starts with the same words ("Area Man Wins Vote Of His Life, say") is kept.
    """
    words = fold_words(headline)
    while article:
        rest = after_words(words, headline, article) if words else after_signs(headline, article)
        if rest is None:
            break
        article = rest
    return article


def after_words(words: list[str], headline: str, article: str) -> str | None:
    """Return what follows a headline at the start of an article; None if it is not there."""
    end = starts_with_words(article, words)
    if end is None:
        return None
    rest = article[end:]
    if line_end := LINE_END.match(rest):
        return rest[line_end.end() :].lstrip()
    if len(words) < SHORTEST:
        return None
    mark = MARK.search(straighten_quotes(headline[-LONGEST_MARK:]))
    if mark and straighten_quotes(rest).startswith(mark[0]):
        return rest[len(mark[0]) :].lstrip()
    return rest.lstrip(" \n:.–—-|") if BREAK.match(rest) else None


def after_signs(headline: str, article: str) -> str | None:
    """Return what follows a headline without words ("!!") that is the first line of an article."""
    first, _, rest = article.partition("\n")
    return rest.lstrip() if first == headline != "" else None


def headline_key(headline: str) -> str:
    """Return the form in which headlines are compared: case, quotes, spacing and punctuation at the edges are ignored."""
    folded = unicodedata.normalize("NFKC", straighten_quotes(headline)).casefold()
    words = " ".join(folded.replace('"', "").replace("'", "").split())
    return words.strip(EDGES) or words or folded.strip()


def straighten_quotes(text: str) -> str:
    return text if text.isascii() else text.translate(QUOTES)
