"""Cleans a text. Every kind of change has a name, so that a corpus can count the rows it affected.

Cleaning is idempotent and changes nothing beyond what `PASSES` lists.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Set
from functools import partial

import ftfy
import regex
from ftfy.badness import is_bad

from onion_lightning.data.cleaning.markup import may_have_markdown, may_have_tag, remove_markdown, remove_tags

__all__ = ["clean_text", "count_meaningless"]

MISREAD_AS = ("latin-1", "cp1252", "mac_roman")
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
LINE_ENDING = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
WIDE_SPACE = re.compile("[\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# U+200C and U+200D are kept: they shape Persian and Indic words and join emoji.
ZERO_WIDTH = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u180e\u200b\u2060\ufeff]")
LINE_EDGE = re.compile(r" +(?=\n)|(?<=\n) +|^[ \n]+|[ \n]+$")
BLANK_LINES = re.compile(r"\n{3,}")
ADVERTISEMENT = re.compile(r"^advertisement[.:]?$(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)


def decoded(first: int, last: int) -> str:
    """Return the characters as which bytes of UTF-8 can be misread, as a class of a regular expression."""
    characters = {bytes([byte]).decode(name, "ignore") for byte in range(first, last + 1) for name in MISREAD_AS}
    return re.escape("".join(sorted(characters)))


# A misread character is a lead byte and one or more continuation bytes, of which a no-break space may have become a plain
# one ("Ã "). Bytes from 0x80 to 0x9f alone are punctuation of cp1252 that was read as Latin-1.
SUSPECT = re.compile(f"[{decoded(0xC2, 0xF4)}][{decoded(0x80, 0xBF)}]|Ã |[\x80-\x84\x86-\x9f]")
CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
WESTERN = re.compile(f"[\x00-\xff{re.escape(bytes(range(0x80, 0xA0)).decode('cp1252', 'ignore'))}]*")
MEANINGLESS = regex.compile(r"[\x80-\x84\x86-\x9f\ufffd\p{Cn}]")


def may_be_mojibake(text: str) -> bool:
    """Return False if no character can be part of a misread one. ftfy takes far longer to decide."""
    return not text.isascii() and SUSPECT.search(text) is not None


def repair_encoding(text: str) -> str:
    """Decode each line again where ftfy is certain. A text may be broken in a few lines only (a quoted post, say).

    A text of which a part cannot be repaired is left as it is. Control characters alone are punctuation only among letters
    of Western Europe; elsewhere they are what remains of other letters.
    """
    how = ftfy.TextFixerConfig(fix_c1_controls=WESTERN.fullmatch(text) is not None)
    lines = [ftfy.fix_encoding(line, how) if may_be_mojibake(line) else line for line in text.split("\n")]
    repaired = "\n".join(lines)
    wrong = CONTROL.search(repaired) or any(is_bad(line) for line in lines if may_be_mojibake(line))
    return text if wrong else repaired


def count_meaningless(text: str) -> int:
    """Return the number of characters that cannot be repaired and mean nothing: C1 controls, unassigned ones and U+FFFD."""
    if text.isascii() or ("\ufffd" not in text and not has_unprintable(text)) or not MEANINGLESS.search(text):
        return 0
    return len(MEANINGLESS.findall(repair_encoding(text)))


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


# Changes by the condition that a text must meet. A condition costs much less than its changes, and few texts meet any. The
# encoding is repaired first: what the other changes remove may be parts of misread characters.
PASSES: list[tuple[Callable[[str], bool], list[tuple[str, Callable[[str], str]]]]] = [
    (may_be_mojibake, [("encoding", repair_encoding)]),
    (has_entity, [("html_entities", unescape)]),
    (may_have_tag, [("html_tags", remove_tags)]),
    (
        has_unprintable,
        [
            ("zero_width", partial(ZERO_WIDTH.sub, "")),
            ("line_endings", partial(LINE_ENDING.sub, "\n")),
            ("spaces", partial(WIDE_SPACE.sub, " ")),
        ],
    ),
    (has_line_edge, [("spaces", partial(LINE_EDGE.sub, ""))]),
    (may_have_markdown, [("markdown", remove_markdown)]),  # which is recognized by the starts of lines
    (may_be_decomposed, [("unicode_form", partial(unicodedata.normalize, "NFC"))]),
    (may_advertise, [("advertisement", partial(ADVERTISEMENT.sub, ""))]),
    (has_blank_lines, [("blank_lines", partial(BLANK_LINES.sub, "\n\n"))]),
]


def clean_text(text: str, skipped: Set[str] = frozenset()) -> tuple[str, set[str]]:
    """Apply all passes until none of them changes the text (an entity may encode another one: "&amp;amp;").

    Args:
        text: of a cell.
        skipped: names of changes that are not made.

    Returns:
        The cleaned text and the names of the changes made.
    """
    changes: set[str] = set()
    before = None
    while before != text:
        before = text
        for may_change, passes in PASSES:
            for name, change in passes if may_change(text) else ():
                changed = text if name in skipped else change(text)
                if changed != text:
                    changes.add(name)
                    text = changed
    return text, changes
