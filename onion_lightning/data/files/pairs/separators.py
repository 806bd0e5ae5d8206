"""Divides texts that contain a headline and its article, and finds what is between them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import takewhile

__all__ = ["BLANK_LINE", "MOST_WORDS", "divide", "find_separator", "unescape"]

BLANK_LINE = "\n\n"
MOST_WORDS = 40  # in a headline
LONGEST = 5  # characters
ENOUGH = 0.95  # share of the texts that a separator divides
# A separator has one of these signs: the others are those of running text, in every script
SIGNS = "#~|=*+^\\_@§¶¦•→⇒\t"
SEPARATES = re.compile(f"[{re.escape(SIGNS)}]|::|;;|---")
OF_TEXT = ".,!?…'\"‘’“”"  # at the edge of a separator, these belong to the text beside it
RUN = re.compile(r"(?:[^\w\s]|[_\t])+")
SENTENCE_ENDS = re.compile(r"[.。।]\W*\Z")  # a first paragraph rather than a headline


def divide(text: str, separator: str, most_words: int) -> tuple[str, str] | None:
    """Divide a text where a separator first occurs. A line break in it matches any, also after spaces.

    Args:
        text: headline, separator and article.
        separator: the text between them.
        most_words: number of words that the headline may have; 0 for any.

    Returns:
        Headline and article; None if the text cannot be divided.
    """
    text = text.strip()
    match = pattern(separator).search(text)
    if match is None or (most_words and len(text[: match.start()].split()) > most_words):
        return None
    return text[: match.start()].rstrip(), text[match.end() :].lstrip()


@cache
def pattern(separator: str) -> re.Pattern[str]:
    lines = map(re.escape, separator.split("\n"))
    return re.compile(r"[ \t]*(?:\r\n|\n|\r(?!\n))".join(lines))


def unescape(separator: str) -> str:
    r"""Return a separator as the shell cannot easily write it: with \n for a line break and \t for a tab."""
    return separator.replace("\\n", "\n").replace("\\t", "\t")


def find_separator(texts: Sequence[str]) -> str | None:
    """Find the one string that divides nearly all texts into a headline and an article.

    It has up to `LONGEST` characters without letters, digits and spaces, one of them a sign that running text lacks, or is a
    blank line after what is no sentence. Spaces around it do not count. Returns None if there is none.
    """
    enough = max(2, ENOUGH * len(texts))
    counts = Counter(found for text in texts for found in set(candidates(text)))
    found = max((one for one in counts if counts[one] >= enough), key=lambda one: (len(one), counts[one]), default=None)
    lines = {text: parts[0] for text in texts if (parts := divide(text, BLANK_LINE, MOST_WORDS))}
    lines = {text: line for text, line in lines.items() if line and not SENTENCE_ENDS.search(line)}
    if len(lines) < enough:
        return found
    if found is None:
        return BLANK_LINE
    signs = [(divide(text, found, MOST_WORDS) or ("", ""))[0] for text in lines]
    beside = sum(line.removesuffix(found).rstrip() == sign for line, sign in zip(lines.values(), signs, strict=True))
    return found if beside >= enough else BLANK_LINE  # elsewhere in the first line, the sign is a part of the headline


def candidates(text: str) -> Iterator[str]:
    """Yield the strings that divide a text into a headline and an article, where each first occurs."""
    text = text.strip()
    seen: set[str] = set()
    for run in takewhile(lambda run: len(text[: run.start()].split()) <= MOST_WORDS, RUN.finditer(text)):
        for start, end in parts(run[0]):
            part = run[0][start:end]
            if part not in seen and text[: run.start() + start].strip() and text[run.start() + end :].strip():
                yield part
            seen.add(part)


def parts(run: str) -> Iterator[tuple[int, int]]:
    """Yield where the strings in a run of signs begin and end that may be separators, and are not cut from a longer one."""
    for start in range(len(run)):
        for end in range(start + 1, min(start + LONGEST, len(run)) + 1):
            edges, outside = {run[start], run[end - 1]}, {*run[max(start - 1, 0) : start], *run[end : end + 1]}
            whole = outside.isdisjoint((*SIGNS, *edges)) and edges.isdisjoint(OF_TEXT)
            if whole and SEPARATES.search(run[start:end]):
                yield start, end
