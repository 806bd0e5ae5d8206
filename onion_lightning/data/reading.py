"""Reading headline/article tables: CSV, TSV, JSONL and Parquet files, directories of them, hub and Kaggle data sets.

Every row of every file comes out once, in order, as a `RawRow`; a row that cannot be read says so in `problem` and never
fails its file.
"""

import csv
import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

from onion_lightning.errors import OnionError

__all__ = ["Columns", "RawRow", "find_columns", "find_files", "fingerprint", "read_file"]

log = logging.getLogger(__name__)

SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}
HEADLINE_NAMES = ("title", "headline")
ARTICLE_NAMES = ("content", "article", "text", "body")

Columns = tuple[str | None, str | None]  # the headline's and the article's column, as typed by the user


class RawRow(TypedDict):
    """A row as it was read. A missing cell is None; `problem` is a reason to drop the row, or empty."""

    headline: str | None
    article: str | None
    problem: str


def find_files(path: Path) -> list[Path]:
    """List the tables at a path: the file itself, or a directory's, by name.

    Raises:
        OnionError: nothing is there, or nothing that can be read.
    """
    if not path.exists():
        raise OnionError(f"--data.path {path}: no such file or directory; give a CSV, TSV, JSONL or Parquet file.")
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise OnionError(
            f"--data.path {path}: the directory holds no {', '.join(sorted(SUFFIXES))} file; put one there."
        )
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise OnionError(f"--data.path {file}: files of this kind are not read; convert it to one of {known}.")
    return files


def fingerprint(file: Path) -> str:
    """SHA-256 of a file's bytes: the cache's key, so that an edited file is read again."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_columns(names: Iterable[str], columns: Columns, source: str) -> tuple[str, str]:
    """Find the two columns, without regard to case.

    Raises:
        OnionError: a column is missing; the sentence lists those that are there.
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
                f" {', '.join(map(repr, names)) or '(none: the file is empty)'}; name the right one with --data.{flag}."
            )
        found.append(match)
    return found[0], found[1]


def read_file(file: Path, columns: Columns) -> Iterator[RawRow]:
    """Read one table, row by row.

    Raises:
        OnionError: the file has no such columns, or is no Parquet file.
    """
    match file.suffix.lower():
        case ".parquet":
            return read_parquet(file, columns)
        case ".jsonl" | ".ndjson":
            return read_jsonl(file, columns)
        case suffix:
            return read_csv(file, columns, "\t" if suffix == ".tsv" else ",")


def detect_encoding(file: Path) -> str:
    """UTF-8, with or without a byte-order mark; anything else is read as cp1252, and told."""
    try:
        with file.open(encoding="utf-8") as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeDecodeError as error:
        log.warning("%s is not UTF-8 (byte %d); reading it as cp1252.", file, error.start)
        return "cp1252"
    return "utf-8-sig"


def read_csv(file: Path, columns: Columns, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(sys.maxsize)  # an article may be longer than the module's 128 KiB
    with file.open(encoding=detect_encoding(file), errors="replace", newline="") as stream:
        quotes = QuoteCount(stream)
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
        log.warning("%s: a quote that opens in line %d is never closed; all that follows is one cell.", file, opened)


class QuoteCount:
    """The lines of a stream, with the quotes in them counted: the csv module reads past one that is never closed."""

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
        """The quotes since the last call."""
        count, self.count = self.count, 0
        return count


def read_jsonl(file: Path, columns: Columns) -> Iterator[RawRow]:
    """Lines end at LF alone: U+2028 inside a string is text."""
    encoding = detect_encoding(file)
    seen: dict[str, None] = {}  # all keys, in order
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
            found = [pick(record, wanted_names(columns, at)) for at in (0, 1)]
            yield RawRow(headline=as_text(found[0]), article=as_text(found[1]), problem="")
    find_columns(seen, columns, str(file))


def wanted_names(columns: Columns, at: int) -> tuple[str, ...]:
    """Names, in lower case, that the headline's (0) or the article's (1) column may have."""
    typed = columns[at]
    return (typed.strip().lower(),) if typed else (HEADLINE_NAMES, ARTICLE_NAMES)[at]


def pick(record: dict[str, Any], names: tuple[str, ...]) -> object:
    folded = {key.strip().lower(): value for key, value in record.items()}
    return next((folded[name] for name in names if name in folded), None)


def parse_object(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_parquet(file: Path, columns: Columns) -> Iterator[RawRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise OnionError(f"--data.path {file}: not a Parquet file ({error}); write it again.") from error
    with table:
        names = find_columns(table.schema_arrow.names, columns, str(file))
        for batch in table.iter_batches(batch_size=1000, columns=list(names)):
            for headline, article in zip(batch.column(names[0]), batch.column(names[1]), strict=True):
                yield RawRow(headline=as_text(headline.as_py()), article=as_text(article.as_py()), problem="")


def as_text(value: object) -> str | None:
    """A cell as text. None and the float NaN, which tables use for a missing cell, are missing, never the text "nan"."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    return value if isinstance(value, str) else str(value)
