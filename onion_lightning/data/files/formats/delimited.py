"""Reads tables of delimited cells: CSV and TSV files."""

import csv
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from onion_lightning.data.files.columns import Layout, Record, read_columns
from onion_lightning.data.files.opening import Table, open_text

__all__ = ["read_delimited"]

log = logging.getLogger(__name__)

RAGGED = 0.01  # share of rows with more cells than the header, above which a warning is logged


@contextmanager
def read_delimited(table: Table, layout: Layout) -> Iterator[tuple[list[str], Iterator[Record]]]:
    """Open a CSV file: the names of its columns, and its rows."""
    csv.field_size_limit(sys.maxsize)  # an article may exceed the csv module's default of 128 KiB
    with open_text(table, layout.encoding, newline="") as stream:
        lines = QuoteCounter(stream, layout.escapechar)
        rows = csv.reader(lines, delimiter=layout.delimiter, escapechar=layout.escapechar or None)
        header = next((cells for cells in rows if any(map(str.strip, cells))), [])
        lines.take()
        yield header, records(table, layout, header, rows, lines)


def records(table: Table, layout: Layout, header: list[str], rows: Any, lines: "QuoteCounter") -> Iterator[Record]:
    columns, width = read_columns(header, layout), len(header)
    first_line, odd, count, ragged, first_ragged = rows.line_num + 1, False, 0, 0, 0
    for cells in rows:
        opened, odd, spans = first_line, lines.take() % 2 == 1, rows.line_num > first_line
        first_line = rows.line_num + 1
        if not cells:
            continue
        count += 1
        if any(cell.strip() for cell in cells[width:]):
            ragged += 1
            first_ragged = first_ragged or opened
            yield "ragged"
            continue
        cells += [""] * (width - len(cells))
        yield {name: cells[at] for at, name in columns.items()}
    if layout.quiet:
        return
    if odd and spans:
        log.warning(
            "%s: the quote opened on line %d is never closed; everything after it was read as one cell.",
            table.name,
            opened,
        )
    if ragged > RAGGED * count:
        log.warning(
            "%s: %d of %d rows have more cells than the header and are dropped (the first is on line %d); if cells contain"
            " unquoted delimiters or escaped quotes, specify --data.delimiter or --data.escapechar.",
            *(table.name, ragged, count, first_ragged),
        )


class QuoteCounter:
    """Iterates over the lines of a stream and counts their quotes: the csv module does not report an unclosed quote."""

    def __init__(self, lines: Iterable[str], escapechar: str) -> None:
        self.lines = iter(lines)
        self.escaped = re.compile(re.escape(escapechar) + ".") if escapechar else None
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        if self.escaped is None or '"' not in line:
            self.count += line.count('"')
        else:
            self.count += self.escaped.sub("", line).count('"')
        return line

    def take(self) -> int:
        """Return the number of quotes since the last call."""
        count, self.count = self.count, 0
        return count
