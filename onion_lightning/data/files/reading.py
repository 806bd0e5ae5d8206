"""Reads headline/article tables from CSV, TSV, JSONL and Parquet files, one `RawRow` per row, in file order.

A row that cannot be parsed does not fail its file: it is returned with the reason in `problem`.
"""

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from onion_lightning.errors import OnionError
from onion_lightning.surrogates import replace_surrogates

__all__ = ["HEADLINE_NAMES", "READERS", "Columns", "RawRow", "as_text", "find_columns", "parse_object", "read_file"]

log = logging.getLogger(__name__)

HEADLINE_NAMES = ("title", "headline")
ARTICLE_NAMES = ("content", "article", "text", "body")

Columns = tuple[str | None, str | None]  # --data.headline_column and --data.article_column


class RawRow(TypedDict):
    """A row before cleaning. A missing cell is None; `problem` is the reason to drop the row, or empty."""

    headline: str | None
    article: str | None
    problem: str


def read_file(file: Path, columns: Columns) -> Iterator[RawRow]:
    """Read a table row by row with the reader for its suffix.

    Raises:
        OnionError: the file lacks one of the columns, or is not a valid Parquet file.
    """
    return READERS[file.suffix.lower()](file, columns)


def wanted_names(columns: Columns, at: int) -> tuple[str, ...]:
    """Return the lower-case names accepted for the headline column (`at=0`) or the article column (`at=1`)."""
    given = columns[at]
    return (given.strip().lower(),) if given else (HEADLINE_NAMES, ARTICLE_NAMES)[at]


def find_columns(names: Iterable[str], columns: Columns, source: str) -> tuple[str, str]:
    """Find the headline and the article column by name, ignoring case.

    Raises:
        OnionError: a column is missing; the message lists the columns found.
    """
    names = [name for name in names if name]
    folded = {name.strip().lower(): name for name in reversed(names)}
    found = []
    for at, flag in enumerate(("headline_column", "article_column")):
        wanted = wanted_names(columns, at)
        match = next((folded[name] for name in wanted if name in folded), None)
        if match is None:
            raise OnionError(
                f"--data.path {source}: no column named {' or '.join(wanted)}; the columns are"
                f" {', '.join(map(repr, names)) or '(none: the file is empty)'}; specify the right one with --data.{flag}."
            )
        found.append(match)
    return found[0], found[1]


def read_csv(file: Path, columns: Columns, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(sys.maxsize)  # an article may exceed the csv module's default of 128 KiB
    with file.open(encoding=detect_encoding(file), errors="replace", newline="") as stream:
        quotes = QuoteCounter(stream)
        rows = csv.reader(quotes, delimiter=delimiter)
        header = next(rows, [])
        names = find_columns(header, columns, str(file))
        headline_at, article_at = header.index(names[0]), header.index(names[1])
        quotes.take()
        first_line, odd = rows.line_num + 1, False
        for cells in rows:
            opened, odd, spans = first_line, quotes.take() % 2 == 1, rows.line_num > first_line
            first_line = rows.line_num + 1
            if not cells:
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                yield RawRow(headline=None, article=None, problem="ragged")
                continue
            cells += [""] * (len(header) - len(cells))
            yield RawRow(headline=cells[headline_at], article=cells[article_at], problem="")
    if odd and spans:
        log.warning(
            "%s: the quote opened on line %d is never closed; everything after it was read as one cell.", file, opened
        )


class QuoteCounter:
    """Iterates over the lines of a stream and counts their quotes: the csv module does not report an unclosed quote."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = iter(lines)
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.count += line.count('"')
        return line

    def take(self) -> int:
        """Return the number of quotes since the last call."""
        count, self.count = self.count, 0
        return count


def detect_encoding(file: Path) -> str:
    """Return UTF-8 (with or without a byte-order mark), or cp1252, with a warning, for a file that is not UTF-8."""
    try:
        with file.open(encoding="utf-8") as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeDecodeError as error:
        log.warning("%s is not UTF-8 (byte %d); reading it as cp1252.", file, error.start)
        return "cp1252"
    return "utf-8-sig"


def read_jsonl(file: Path, columns: Columns) -> Iterator[RawRow]:
    """Read one JSON object per line. Only LF ends a line: U+2028 inside a string is text."""
    encoding = detect_encoding(file)
    seen: dict[str, None] = {}  # the keys of all records, in order
    with file.open("rb") as stream:
        for line in stream:
            text = line.decode(encoding, errors="replace").strip()
            if not text:
                continue
            record = parse_object(text)
            if record is None:
                yield RawRow(headline=None, article=None, problem="unreadable")
                continue
            seen |= dict.fromkeys(record)
            headline, article = (pick(record, wanted_names(columns, at)) for at in (0, 1))
            yield RawRow(headline=as_text(headline), article=as_text(article), problem="")
    find_columns(seen, columns, str(file))


def parse_object(text: str) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def pick(record: dict[str, Any], names: tuple[str, ...]) -> object:
    folded = {key.strip().lower(): value for key, value in record.items()}
    return next((folded[name] for name in names if name in folded), None)


def read_parquet(file: Path, columns: Columns) -> Iterator[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise OnionError(f"--data.path {file}: is not a valid Parquet file ({error}); export it again.") from error
    with table:
        names = find_columns(table.schema_arrow.names, columns, str(file))
        for batch in table.iter_batches(batch_size=1000, columns=list(names)):
            for headline, article in zip(batch.column(names[0]), batch.column(names[1]), strict=True):
                yield RawRow(headline=as_text(headline.as_py()), article=as_text(article.as_py()), problem="")


def as_text(value: object) -> str | None:
    """Convert a cell to text, without lone surrogates. None and NaN are missing cells, never the texts "None" and "nan"."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    return replace_surrogates(str(value))


READERS: dict[str, Callable[[Path, Columns], Iterator[RawRow]]] = {
    ".csv": partial(read_csv, delimiter=","),
    ".tsv": partial(read_csv, delimiter="\t"),
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}
