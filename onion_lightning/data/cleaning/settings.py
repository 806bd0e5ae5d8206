"""How rows are cleaned, and which are dropped."""

from typing import Literal, NamedTuple

__all__ = ["RENAMED", "Cleaning", "Filters", "NearDuplicates", "Truncated"]

Truncated = Literal["drop", "cut", "keep"]
NearDuplicates = Literal["drop", "keep"]
RENAMED = {"markdown_links": "markdown"}  # changes under the names that older commands and checkpoints have for them


class Cleaning(NamedTuple):
    """How rows are cleaned.

    Attributes:
        min_words: minimum number of words in an article.
        truncated: what to do with an article that an aggregator cut off.
        skipped: names of changes that are not made.
    """

    min_words: int = 20
    truncated: Truncated = "drop"
    skipped: tuple[str, ...] = ()


class Filters(NamedTuple):
    """Which rows are dropped because of other rows.

    Attributes:
        near_duplicates: drop keeps the longest of articles that are nearly the same; keep puts them into one split.
        language: ISO 639-1 code, auto for that of most articles, or keep.
    """

    near_duplicates: NearDuplicates = "drop"
    language: str = "keep"
