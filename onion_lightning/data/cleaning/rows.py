"""Cleans a row: what can be done with it alone, and what is known once all rows were read."""

from collections.abc import Set
from typing import NamedTuple

from onion_lightning.data.cleaning.boilerplate import remove_lines, remove_site_name
from onion_lightning.data.cleaning.edges import find_cut, mend_dateline
from onion_lightning.data.cleaning.headlines import drop_repeated_headline
from onion_lightning.data.cleaning.text import clean_text, count_meaningless
from onion_lightning.data.files.misread import decode_row

__all__ = ["CHANGES", "NO_REPEATS", "CleanRow", "Repeated", "clean_row", "clean_texts", "finish_row"]

CHANGES = {
    "line_endings": "CR, CRLF and Unicode line separators replaced with LF",
    "spaces": "tabs, no-break spaces and wide spaces replaced with plain spaces; spaces at the edges of lines removed",
    "zero_width": "zero-width characters, byte-order marks, soft hyphens and control characters removed",
    "html_entities": "HTML entities replaced with the characters they encode",
    "unicode_form": "characters composed (Unicode NFC)",
    "blank_lines": "runs of blank lines collapsed to one",
    "advertisement": "lines that contain only “Advertisement” removed",
    "repeated_headline": "headline removed from the start of its own article",
    "encoding": "text repaired that was decoded with the wrong encoding",
    "html_tags": "HTML tags removed, paragraphs kept",
    "markdown": "Markdown converted to text",
    "boilerplate": "lines removed that are repeated in many articles",
    "site_name": "last part of the headline removed that is repeated in many headlines",
    "dateline": "lost dash put back between dateline and article",
    "cut_marker": "marker removed where an aggregator cut the article off, with --data.truncated cut",
    "instruction": "beginning and end of the prompt removed that 95% of the first prompts share",
}
GARBLED = 0.02  # share of the characters of a row


class CleanRow(NamedTuple):
    """A cleaned headline and article, and the names of the changes made to them.

    Attributes:
        headline: one line.
        article: its text.
        changes: keys of `CHANGES`.
        cut: where an aggregator cut the article off; None if it did not.
        repeats: whether the article was nothing but the headline.
        misread: the encoding that the row was repaired from as a whole; "" if it was not.
        garbled: whether the row is full of characters without a meaning, and could not be repaired.
    """

    headline: str
    article: str
    changes: set[str]
    cut: int | None = None
    repeats: bool = False
    misread: str = ""
    garbled: bool = False


class Repeated(NamedTuple):
    """Keys of what is repeated in many rows: lines and labels of articles, and last parts of headlines."""

    lines: Set[int]
    names: Set[int]


NO_REPEATS = Repeated(frozenset(), frozenset())


def clean_texts(headline: str, article: str, skipped: Set[str] = frozenset(), misread: str = "") -> CleanRow:
    """Clean headline and article, each as a text. The headline is joined into one line; a blank cell becomes empty.

    Args:
        headline: of the row.
        article: of the row.
        skipped: names of changes that are not made.
        misread: the encoding that the rows of the same table were read in instead of UTF-8, or "".
    """
    repaired, garbled = "", False
    if "encoding" not in skipped:
        decoded = decode_row(headline, article, misread) if misread else None
        if decoded and decoded != (headline, article):
            (headline, article), repaired = decoded, misread
        garbled = sum(map(count_meaningless, (headline, article))) > GARBLED * len(headline + article)
    headline, changes = clean_text(headline, skipped)
    if (line := " ".join(headline.split())) != headline:
        headline, more = clean_text(line, skipped)  # the start of a line may now be inside one
        changes |= more
    article, more = clean_text(article, skipped)
    changes |= more | ({"encoding"} if repaired else set())
    return CleanRow(headline, article, changes, find_cut(article), misread=repaired, garbled=garbled)


def finish_row(row: CleanRow, repeated: Repeated = NO_REPEATS, skipped: Set[str] = frozenset()) -> CleanRow:
    """Remove from a row what is repeated in others, and the headline from the article; mend the dateline."""
    changes = set(row.changes)

    def change(name: str, old: str, new: str) -> str:
        if new == old or name in skipped:
            return old
        changes.add(name)
        return clean_text(new, skipped)[0]

    headline = change("site_name", row.headline, remove_site_name(row.headline, repeated.names))
    lines = change("boilerplate", row.article, remove_lines(row.article, repeated.lines))
    article = lines
    for title in dict.fromkeys((row.headline, headline)):  # the article may repeat the name of the site, too
        article = change("repeated_headline", article, drop_repeated_headline(title, article))
    repeats = lines != "" and article == ""
    article = change("dateline", article, mend_dateline(article))
    return CleanRow(headline, article, changes, row.cut, repeats)


def clean_row(headline: str, article: str) -> CleanRow:
    """Clean a row of which nothing is repeated in others."""
    return finish_row(clean_texts(headline, article))
