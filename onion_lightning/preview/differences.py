"""What cleaning changed in a text, with characters that cannot be seen made visible."""

import difflib
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

__all__ = ["MAX_COMPARED", "Segment", "compare", "one_line", "visible"]

PIECE = re.compile(r" ?\w+|\r\n|.", re.DOTALL)
NAMES = {"\n": "⏎", "\r": "␍", "\r\n": "␍⏎", "\t": "⇥", " ": "␣"}
MAX_COMPARED = 20_000  # characters; the time to compare grows faster than the text


class Segment(NamedTuple):
    """A part of a text before and after cleaning; equal if nothing was changed there."""

    before: str
    after: str

    @property
    def is_same(self) -> bool:
        return self.before == self.after


def compare(before: str, after: str) -> list[Segment]:
    """Return the segments of a text in order. The text before cleaning is all their `before`, the cleaned one their `after`.

    Only the beginnings of long texts are compared, and the segments end where both still agree.
    """
    first, second = (PIECE.findall(text[:MAX_COMPARED]) for text in (before, after))
    opcodes = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    segments = [
        part for _, a, b, c, d in opcodes for part in narrow(Segment("".join(first[a:b]), "".join(second[c:d])))
    ]
    if max(len(before), len(after)) > MAX_COMPARED and len(segments) > 1 and not segments[-1].is_same:
        segments.pop()
    return segments


def narrow(segment: Segment) -> Iterator[Segment]:
    """Yield the beginning that both texts of a segment have in common, what differs, and the end that they have in common."""
    before, after = segment
    start = common_length(before, after)
    end = common_length(before[start:][::-1], after[start:][::-1])
    middle = Segment(before[start : len(before) - end], after[start : len(after) - end])
    parts = (
        Segment(before[:start], after[:start]),
        middle,
        Segment(before[len(before) - end :], after[len(after) - end :]),
    )
    yield from (part for part in parts if any(part))


def common_length(first: str, second: str) -> int:
    """Return the length of the beginning that two texts have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def visible(text: str) -> str:
    """Replace white space and characters that cannot be seen by symbols or code points, such as [U+200B]."""
    return "".join(map(show_character, re.findall(r"\r\n|.", text, re.DOTALL)))


def show_character(character: str) -> str:
    if character in NAMES:
        return NAMES[character]
    return character if character.isprintable() else f"[U+{ord(character):04X}]"


def one_line(text: str, length: int) -> str:
    """Return the beginning of a text as one line of at most this many characters, without control characters."""
    line = " ".join(text[: 4 * length].split())
    line = "".join(character if character.isprintable() else show_character(character) for character in line)
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1].rstrip() + "…"
