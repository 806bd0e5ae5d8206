"""Names the columns of tables, and how a table is read."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from onion_lightning.errors import OnionError

__all__ = [
    "ARTICLE_NAMES",
    "COMPLETION_NAMES",
    "HEADLINE_NAMES",
    "INPUT_NAMES",
    "LOOK_AT",
    "OTHER_NAMES",
    "PROMPT_NAMES",
    "SUMMARY_NAMES",
    "TURN_NAMES",
    "Columns",
    "Layout",
    "NoColumnsError",
    "Pair",
    "Record",
    "accepted_names",
    "cut",
    "field",
    "first_field",
    "fold",
    "missing_column",
    "named",
    "present",
    "read_columns",
]

HEADLINE_NAMES = ("title", "headline")
ARTICLE_NAMES = (
    *("content", "article", "text", "body"),
    *("article_text", "news_body", "body_text", "full_text", "story", "selftext"),
)
SUMMARY_NAMES = ("description",)  # an article where there is nothing better
PROMPT_NAMES, INPUT_NAMES = ("prompt",), ("input", "instruction")  # of TRL; of Alpaca
COMPLETION_NAMES = ("completion", "response", "output")
TURN_NAMES = ("messages", "conversations", "conversation")  # other names are found by their cells
OTHER_NAMES = (*SUMMARY_NAMES, *PROMPT_NAMES, *INPUT_NAMES, *COMPLETION_NAMES, *TURN_NAMES)
LOOK_AT = 200  # rows, to decide how a row gives a headline and an article
SHOWN = 60  # characters of a column name in a message

Record = dict[str, Any] | str  # the cells of a row by column name (see `fold`), or the reason why it cannot be read


class Columns(NamedTuple):
    """The columns to read, and how to read the files that contain them: flags of the data module, None to find out."""

    headline: str | None = None  # --data.headline_column
    article: str | None = None  # --data.article_column
    encoding: str | None = None  # --data.encoding
    delimiter: str | None = None  # --data.delimiter
    escapechar: str | None = None  # --data.escapechar; "" is no escape character
    separator: str | None = None  # --data.separator
    quotechar: str | None = None  # --data.quotechar; "" is no quotation mark


class Pair(NamedTuple):
    """How the columns of a row become a headline and an article.

    Attributes:
        kind: columns reads the first headline column that a row has, filled the first that is not blank; turns reads the last
            turns of a chat; divided reads both from one column.
        separator: the text between them, if divided.
        most_words: number of words that a headline may have, if divided; 0 for any.
        before: instruction that the headlines begin with, which is no part of them.
        after: instruction that follows the headlines.
    """

    kind: Literal["columns", "filled", "turns", "divided"] = "columns"
    separator: str = ""
    most_words: int = 0
    before: str = ""
    after: str = ""


class Layout(NamedTuple):
    """How one table is read: what the flags leave open was found in its bytes. It is part of the cache key.

    Attributes:
        headline: names of the headline column as `fold` returns them; without any, every column is read.
        article: names of the article column, likewise.
        encoding: encoding of a text file.
        delimiter: character between the cells of a CSV file.
        escapechar: character before a quote in a cell of a CSV file, or "".
        quotechar: character around a cell of a CSV file, or "" for none; None to find out whether quotation marks are text.
        sheet: title of the sheet of a workbook.
        misread: the encoding in which its UTF-8 was read before it was written (`find_misreading`), or "".
        quiet: whether to leave warnings about the rows to a later reader.
        pair: what becomes of the columns.
    """

    headline: tuple[str, ...]
    article: tuple[str, ...]
    encoding: str = ""
    delimiter: str = ""
    escapechar: str = ""
    quotechar: str | None = None
    sheet: str = ""
    misread: str = ""
    quiet: bool = False
    pair: Pair = Pair()


class NoColumnsError(OnionError):
    """A table has neither a headline nor an article column, or lacks one of them and has a single row."""


def fold(name: object) -> str:
    """Return the form in which names of columns are compared."""
    return str(name).strip("\ufeff \t\r\n").lower()


def accepted_names(given: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns that may contain the headline, and of those that may contain the article."""
    headline = (*HEADLINE_NAMES, *PROMPT_NAMES, *INPUT_NAMES, *TURN_NAMES)
    article = (*ARTICLE_NAMES, *COMPLETION_NAMES, *SUMMARY_NAMES, *TURN_NAMES)
    return named(given.headline, headline), named(given.article, article)


def named(given: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name that a flag gives, or else the usual names."""
    return (fold(given),) if given else names


def read_columns(names: Sequence[object], layout: Layout) -> dict[int, str]:
    """Return the positions of the columns that a layout needs, with their names. Of equal names, the first is used."""
    needed = {part for name in layout.headline + layout.article for part in (name, name.partition(".")[0])}
    found: dict[str, int] = {}
    for at, name in enumerate(map(fold, names)):
        if name in needed or not needed:
            found.setdefault(name, at)
    return {at: name for name, at in found.items()}


def present(wanted: Iterable[str], names: Sequence[object], records: list[Record]) -> list[str]:
    """Return those of the wanted columns that a table has by its header, or in one of its first records."""
    folded = {fold(name) for name in names}
    return [name for name in wanted if name in folded or any(field(record, name) is not None for record in records)]


def missing_column(given: Columns, names: Sequence[object], records: list[Record], source: str) -> OnionError:
    """Return the error for a table without a headline or an article column; it lists the columns found."""
    headline, article = named(given.headline, HEADLINE_NAMES), named(given.article, ARTICLE_NAMES)
    no_headline, no_article = (not present(wanted, names, records) for wanted in (headline, article))
    wanted = headline if no_headline else article
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
    flags = "--data.headline_column" if no_headline else "--data.article_column"
    if no_headline:
        flags += ", or, if one column contains headline and article, what is between them with --data.separator"
    return kind(f"{lacks}; the columns are {shown or empty}; specify the right one with {flags}.")


def cut(text: str) -> str:
    """Return the beginning of a text for a message."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


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
