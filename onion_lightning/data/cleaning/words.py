"""Words of any script."""

import re
from functools import cache
from itertools import islice, zip_longest

import regex

__all__ = ["fold_words", "has_words", "split_words", "starts_with_words"]

# Chinese and Japanese are written without spaces: each character counts. Thai, Lao, Khmer and Burmese are, too, and their
# words have about four characters. `\w` of regex includes combining marks, as of Devanagari; that of `re` does not.
ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}"
UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
COUNTED = regex.compile(rf"[{ALONE}]|[{UNSPACED}]{{1,4}}|[\w--[{ALONE}{UNSPACED}]]+(?:['’-]\w+)*", regex.V1)
WORD = regex.compile(r"\w+")
# regex takes ten times as long as `re`, which does for scripts of single letters with spaces between words.
HAS_MARKS = re.compile("[\u0300-\u036f\u0590-\u1cff\u2c00-\ufdff\U00010000-\U0003ffff]")
HAS_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def has_words(text: str, count: int) -> bool:
    """Return whether a text has at least `count` words. "it's" and "e-mail" are one word."""
    if len(text) < count:
        return False
    if text.isascii() or not HAS_MARKS.search(text):
        return plain_words(count).match(text) is not None
    return sum(1 for _ in islice(COUNTED.finditer(text), count)) == count


@cache
def plain_words(count: int) -> re.Pattern[str]:
    """Return a pattern of so many words. It is possessive ("++"), so that it never tries to divide a word again."""
    return re.compile(rf"(?:\W*+\w++(?:['’-]\w++)*+){{{count}}}")


def split_words(text: str) -> list[str]:
    """Return the words of a text with their punctuation, in lower case; characters of scripts without spaces alone."""
    folded = text.casefold()
    return COUNTED.findall(folded) if not folded.isascii() and HAS_UNSPACED.search(folded) else folded.split()


def fold_words(text: str) -> list[str]:
    """Return the words of a text in the form in which headlines are compared: without case and punctuation."""
    return [match[0].casefold() for match in WORD.finditer(text)]


def starts_with_words(text: str, words: list[str]) -> int | None:
    """Return the position after words, as `fold_words` returns them, at the start of a text; None if others are there.

    The last one may be the beginning of a longer one ("VoteTOLEDO").
    """
    end = 0
    for at, match in zip_longest(range(len(words)), islice(WORD.finditer(text), len(words))):
        if match is None:
            return None
        word = words[at]
        end = match.end() if match[0].casefold() == word else match.start() + len(word)
        if text[match.start() : end].casefold() != word or (end < match.end() and at < len(words) - 1):
            return None
    return end
