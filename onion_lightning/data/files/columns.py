"""Finds the headline and the article column of a table."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from onion_lightning.data.files.cells import NotTextError, RawRow, as_text
from onion_lightning.errors import OnionError

__all__ = [
    "ARTICLE_NAMES",
    "HEADLINE_NAMES",
    "LOOK_AT",
    "Columns",
    "Layout",
    "NoColumnsError",
    "Record",
    "accepted_names",
    "fold",
    "read_columns",
    "resolve_columns",
    "to_row",
]

log = logging.getLogger(__name__)

HEADLINE_NAMES = ("title", "headline")
ARTICLE_NAMES = (
    *("content", "article", "text", "body"),
    *("article_text", "news_body", "body_text", "full_text", "story", "selftext"),
)
LOOK_AT = 200  # rows, to choose among several article columns
SHOWN = 60  # characters of a column name in a message

Record = dict[str, Any] | str  # the cells of a row by column name (see `fold`), or the reason why it cannot be read


class Columns(NamedTuple):
    """The columns to read, and how to read the files that contain them: flags of the data module, None to find out."""

    headline: str | None = None  # --data.headline_column
    article: str | None = None  # --data.article_column
    encoding: str | None = None  # --data.encoding
    delimiter: str | None = None  # --data.delimiter
    escapechar: str | None = None  # --data.escapechar; "" is no escape character


class Layout(NamedTuple):
    """How one table is read: what the flags leave open was found in its bytes. It is part of the cache key.

    Attributes:
        headline: names of the headline column as `fold` returns them; in each record, the first that it contains is used.
        article: names of the article column, likewise.
        encoding: encoding of a text file.
        delimiter: character between the cells of a CSV file.
        escapechar: character before a quote in a cell of a CSV file, or "".
        misread: the encoding in which its UTF-8 was read before it was written (`find_misreading`), or "".
        quiet: whether to leave warnings about the rows to a later reader.
    """

    headline: tuple[str, ...]
    article: tuple[str, ...]
    encoding: str = ""
    delimiter: str = ""
    escapechar: str = ""
    misread: str = ""
    quiet: bool = False


class NoColumnsError(OnionError):
    """A table has neither a headline nor an article column, or lacks one of them and has a single row."""


def fold(name: object) -> str:
    """Return the form in which names of columns are compared."""
    return str(name).strip("\ufeff \t\r\n").lower()


def accepted_names(columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names accepted for the headline column and for the article column."""
    headline = (fold(columns.headline),) if columns.headline else HEADLINE_NAMES
    return headline, (fold(columns.article),) if columns.article else ARTICLE_NAMES


def read_columns(names: Sequence[object], layout: Layout) -> dict[int, str]:
    """Return the positions of the columns that a layout needs, with their names. Of equal names, the first is used."""
    needed = {part for name in layout.headline + layout.article for part in (name, name.partition(".")[0])}
    found: dict[str, int] = {}
    for at, name in enumerate(map(fold, names)):
        if name in needed:
            found.setdefault(name, at)
    return {at: name for name, at in found.items()}


def resolve_columns(layout: Layout, names: Sequence[object], records: list[Record], source: str, fixed: bool) -> Layout:
    """Return a layout with the columns that a table has.

    Args:
        layout: the layout with all accepted names.
        names: the names in the table's header, or those in its first records.
        records: the first `LOOK_AT` rows.
        source: name of the table for messages.
        fixed: whether all rows have the same columns.

    Raises:
        OnionError: a column is missing; the message lists the columns found.
    """
    folded = {fold(name) for name in names}
    headline, article = (
        [name for name in wanted if name in folded or any(field(record, name) is not None for record in records)]
        for wanted in (layout.headline, layout.article)
    )
    if not headline or not article:
        raise missing_column(layout, not headline, not article, names, records, source)
    article = longest_first(article, records, source)
    if fixed:
        return layout._replace(headline=(headline[0],), article=(article[0],))
    return layout._replace(  # later records may have other names
        headline=tuple(dict.fromkeys((*headline, *layout.headline))),
        article=tuple(dict.fromkeys((*article, *layout.article))),
    )


def missing_column(
    layout: Layout, no_headline: bool, no_article: bool, names: Sequence[object], records: list[Record], source: str
) -> OnionError:
    """Return the error for a table without a headline or an article column."""
    flag, wanted = ("headline_column", layout.headline) if no_headline else ("article_column", layout.article)
    kind = NoColumnsError if (no_headline and no_article) or len(records) < 2 else OnionError
    spelled = list(map(str, names))
    shown = ", ".join(repr(cut(name)) for name in spelled[:20] if name) + (", ..." if len(spelled) > 20 else "")
    lacks = f"--data.path {source}: no column named {' or '.join(wanted)}"
    if any(len(name) > SHOWN or name.strip().isdigit() for name in spelled):
        return kind(
            f"{lacks}; it seems to have no header line, because its first cells are {shown}; add a line with the names of"
            " the columns, such as title and content."
        )
    empty = "(none: no row is an object with columns)" if records else "(none: the file is empty)"
    return kind(f"{lacks}; the columns are {shown or empty}; specify the right one with --data.{flag}.")


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def longest_first(names: list[str], records: list[Record], source: str) -> list[str]:
    """Order article columns by the length of their text in the first rows, and log which one is used if several have any."""
    texts = [[text_length(field(record, name)) for name in names] for record in records]
    total = dict(zip(names, map(sum, zip(*texts, strict=True)), strict=True)) if texts else {}
    ordered = sorted(names, key=lambda name: -total.get(name, 0))
    if any(sum(map(bool, lengths)) > 1 for lengths in texts):
        log.info(
            "%s: the article column is %s, which has the longest text in the first %d rows of %s; select another one with"
            " --data.article_column.",
            *(source, ordered[0], len(texts), " and ".join(names)),
        )
    return ordered


def text_length(cell: Any) -> int:
    try:
        return len(as_text(cell) or "")
    except NotTextError:
        return 0


def field(record: Record, name: str) -> Any:
    """Return a cell, or a field inside it for a name with dots ("content.rendered"). None if there is none."""
    if isinstance(record, str):
        return None
    if name in record or "." not in name:
        return record.get(name)
    root, _, rest = name.partition(".")
    inner = record.get(root)
    return field({fold(key): value for key, value in inner.items()}, rest) if isinstance(inner, dict) else None


def first_field(record: dict[str, Any], names: Iterable[str]) -> Any:
    """Return the first of several columns that a record contains."""
    for name in names:
        if name in record:
            return record[name]
    return next((value for name in names if "." in name and (value := field(record, name)) is not None), None)


def to_row(record: Record, layout: Layout) -> RawRow:
    """Convert a record to a row. What cannot be converted is the row's problem."""
    if isinstance(record, str):
        return RawRow(headline=None, article=None, problem=record, misread="")
    try:
        headline = as_text(first_field(record, layout.headline))
        article = as_text(first_field(record, layout.article))
    except NotTextError:
        return RawRow(headline=None, article=None, problem="not_text", misread="")
    return RawRow(headline=headline, article=article, problem="", misread=layout.misread)
