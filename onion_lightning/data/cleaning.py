"""Cleans headlines and articles. Every kind of change has a name, so that a corpus can count the rows it affected.

Cleaning is idempotent and changes nothing beyond what `CHANGES` lists.
"""

import html
import re
import string
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

__all__ = ["CHANGES", "CleanRow", "clean_row", "clean_text", "headline_key"]

CHANGES = {
    "line_endings": "CR, CRLF and Unicode line separators replaced with LF",
    "spaces": "tabs, no-break spaces and wide spaces replaced with plain spaces; spaces at the edges of lines removed",
    "zero_width": "zero-width characters, byte-order marks, soft hyphens and control characters removed",
    "html_entities": "HTML entities replaced with the characters they encode",
    "unicode_form": "characters composed (Unicode NFC)",
    "blank_lines": "runs of blank lines collapsed to one",
    "advertisement": "lines that contain only “Advertisement” removed",
    "repeated_headline": "headline removed from the start of its own article",
}

ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
LINE_ENDING = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
WIDE_SPACE = re.compile("[\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# U+200C and U+200D are kept: they shape Persian and Indic words and join emoji.
ZERO_WIDTH = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u180e\u200b\u2060\ufeff]")
LINE_EDGE = re.compile(r" +(?=\n)|(?<=\n) +|^[ \n]+|[ \n]+$")
QUOTES = str.maketrans("‘’“”", "''\"\"")
EDGES = " .,:;!?"  # not compared at the edges of a headline
IGNORED = EDGES + string.whitespace + "\x1c\x1d\x1e\x1f\"'‘’“”"
BREAK = re.compile(r"$| *[\n:|–—]| - |\. | ?[A-Z]{2,}[^a-z]")
BLANK_LINES = re.compile(r"\n{3,}")
ADVERTISEMENT = re.compile(r"^advertisement[.:]?$(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)


class CleanRow(NamedTuple):
    """A cleaned headline and article, and the names of the changes made to them."""

    headline: str
    article: str
    changes: set[str]


def unescape(text: str) -> str:
    """Decode HTML entities that end in a semicolon ("&amp;"). "AT&T" and an unknown "&foo;" are left unchanged."""
    return ENTITY.sub(lambda match: html.unescape(match[0]), text)


def has_entity(text: str) -> bool:
    return "&" in text


def has_unprintable(text: str) -> bool:
    """Whether a character other than LF is a control or format character, or a space other than the plain one."""
    return not text.replace("\n", " ").isprintable()


def has_line_edge(text: str) -> bool:
    return " \n" in text or "\n " in text or text.strip(" \n") != text


def may_be_decomposed(text: str) -> bool:
    return not text.isascii()


def may_advertise(text: str) -> bool:
    return text[:1] in "aA" or "\na" in text or "\nA" in text


def has_blank_lines(text: str) -> bool:
    return "\n\n\n" in text


# Changes by the condition that a text must meet. A condition costs much less than its changes, and few texts meet any.
PASSES: list[tuple[Callable[[str], bool], list[tuple[str, Callable[[str], str]]]]] = [
    (has_entity, [("html_entities", unescape)]),
    (
        has_unprintable,
        [
            ("zero_width", partial(ZERO_WIDTH.sub, "")),
            ("line_endings", partial(LINE_ENDING.sub, "\n")),
            ("spaces", partial(WIDE_SPACE.sub, " ")),
        ],
    ),
    (has_line_edge, [("spaces", partial(LINE_EDGE.sub, ""))]),
    (may_be_decomposed, [("unicode_form", partial(unicodedata.normalize, "NFC"))]),
    (may_advertise, [("advertisement", partial(ADVERTISEMENT.sub, ""))]),
    (has_blank_lines, [("blank_lines", partial(BLANK_LINES.sub, "\n\n"))]),
]


def clean_text(text: str) -> tuple[str, set[str]]:
    """Apply all passes until none of them changes the text (an entity may encode another one: "&amp;amp;").

    Returns:
        The cleaned text and the names of the changes made.
    """
    changes: set[str] = set()
    before = None
    while before != text:
        before = text
        for may_change, passes in PASSES:
            for name, change in passes if may_change(text) else ():
                changed = change(text)
                if changed != text:
                    changes.add(name)
                    text = changed
    return text, changes


def drop_repeated_headline(headline: str, article: str) -> str:
    """Remove the headline from the start of the article, as many times as it is repeated there.

    A repeat is either a line that contains only the headline, or a headline of at least four words copied exactly and
    followed by punctuation or a dateline: "Area Man Wins Vote: A man", "Area Man Wins Vote TOLEDO, OH—". A sentence that
    merely starts with the same words ("Area Man Wins Vote Of His Life, say") is kept.
    """
    quoted = straighten_quotes(headline)
    while article:
        first, _, rest = article.partition("\n")
        if may_have_one_key(first, headline) and headline_key(first) == headline_key(headline) != "":
            article = rest.lstrip()
            continue
        start, after = article[: len(headline)], article[len(headline) :]
        opens = straighten_quotes(start) == quoted and len(headline.split()) >= 4
        if not opens or not BREAK.match(after):
            break
        article = after.lstrip(" \n:.–—-|")
    return article


def clean_row(headline: str, article: str) -> CleanRow:
    """Clean a headline and its article. The headline is joined into one line; a blank cell becomes an empty string."""
    headline, changes = clean_text(headline)
    headline = " ".join(headline.split())
    article, more = clean_text(article)
    shorter = drop_repeated_headline(headline, article)
    if shorter != article:
        article = clean_text(shorter)[0]
        changes.add("repeated_headline")
    return CleanRow(headline, article, changes | more)


def headline_key(headline: str) -> str:
    """Return the form in which headlines are compared: case, quotes, spacing and punctuation at the edges are ignored."""
    folded = unicodedata.normalize("NFKC", straighten_quotes(headline)).casefold()
    words = " ".join(folded.replace('"', "").replace("'", "").split())
    return words.strip(EDGES) or words or folded.strip()


def may_have_one_key(first: str, second: str) -> bool:
    """Return False only if two texts have different keys: after quotes and punctuation, both begin with ASCII, and differ.

    A first line can be a whole article, whose key takes longer than all the rest of cleaning.
    """
    a, b = first.lstrip(IGNORED)[:1], second.lstrip(IGNORED)[:1]
    return a.lower() == b.lower() or not (a.isascii() and b.isascii())  # an accent that follows changes no letter


def straighten_quotes(text: str) -> str:
    return text if text.isascii() else text.translate(QUOTES)
