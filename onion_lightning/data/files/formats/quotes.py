"""Reads rows of delimited cells, and finds quotation marks that do not quote a cell.

To the csv module, a cell that begins with a quotation mark ends at the next one, which may be many rows later.
"""

import csv
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from onion_lightning.data.files.columns import Layout
from onion_lightning.data.files.formats.dialect import QUOTE, csv_settings
from onion_lightning.data.files.opening import Table, open_text

__all__ = ["Lines", "quotes_cells"]

ALIKE = 0.9  # share of a row's lines with the header's number of delimiters, from which they are rows of their own
CERTAIN = 10  # number of such lines, from which on they are rows although the quotes are closed correctly
MOST = 1000  # lines of a row, after which they are not read to the end if they are rows


class LongRowError(Exception):
    """So many lines of a row are rows of their own that its end is not looked for."""


class Lines:
    """Splits lines into rows of cells. Rows that a quotation mark in a text joined to one are read again, one by one.

    Args:
        stream: the lines, with their ends.
        layout: how they are read. With a quotation mark in it, all rows are what the csv module reads.

    Attributes:
        number: number of the first line of the row that was read last.
        row: its lines.
        width: number of cells of the header, once it is read.
        stray: numbers of lines that were read without quoting.
        unclosed: the line with a quote that is never closed, and the number of lines read as its row; 0 if there is none.
    """

    def __init__(self, stream: TextIO, layout: Layout) -> None:
        self.stream, self.delimiter, self.trusted = stream, layout.delimiter, layout.quotechar is not None
        self.settings, self.unquoted = csv_settings(layout), csv_settings(layout._replace(quotechar=""))
        self.again: deque[str] = deque()
        self.row: list[str] = []
        self.stray: list[int] = []
        self.number, self.width, self.unclosed = 1, 0, (0, 0)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.stream, None)
        if line is None:
            if self.row:
                self.unclosed = self.number, len(self.row)
            raise StopIteration
        self.row.append(line)
        if len(self.row) == MOST and self.has_stray_quote([]):
            raise LongRowError
        return line

    def header(self) -> list[str]:
        """Return the first row with text in it, which says how many cells the others should have."""
        cells = next((cells for cells in self.rows() if any(map(str.strip, cells))), [])
        self.width = len(cells)
        return cells

    def rows(self) -> Iterator[list[str]]:
        """Iterate over the remaining rows. A blank line is a row without cells."""
        reader = csv.reader(self, **self.settings)
        while True:
            self.number += len(self.row)
            self.row.clear()
            try:
                cells = next(reader, None)
            except LongRowError:
                cells = []
            if cells is None:
                return
            if (len(self.row) > 1 or len(cells) < self.width) and self.has_stray_quote(cells):
                self.stray.append(self.number)
                self.again.extendleft(reversed(self.row[1:]))
                del self.row[1:]
                self.unclosed = 0, 0
                cells, reader = next(csv.reader(self.row, **self.unquoted)), csv.reader(self, **self.settings)
            yield cells

    def has_stray_quote(self, cells: list[str]) -> bool:
        """Return whether the current row has a quotation mark that quotes no cell: without it, its first line is a row."""
        if self.trusted or self.width < 2 or not self.is_whole(self.row[0]):
            return False
        if len(self.row) == 1:
            return len(cells) < self.width and self.split(self.row) is None
        alike = self.are_alike()
        if alike and len(self.row) >= CERTAIN:
            return True
        if self.split(self.row) is not None:
            return False
        return alike or all(len(row) in (0, self.width) for row in self.split(self.row[1:]) or [[""]])

    def are_alike(self) -> bool:
        """Return whether nearly all lines of the current row have the header's number of delimiters."""
        lines = [line for line in self.row if line.strip()]
        return sum(map(self.is_whole, lines)) >= ALIKE * len(lines)

    def is_whole(self, line: str) -> bool:
        return line.count(self.delimiter) == self.width - 1

    def split(self, lines: list[str]) -> list[list[str]] | None:
        """Split lines into rows. None if a quotation mark is neither at an edge of a cell nor doubled inside one."""
        try:
            return list(csv.reader(lines, strict=True, **self.settings))
        except csv.Error:
            return None


def quotes_cells(table: Table, layout: Layout) -> tuple[bool, int]:
    """Read a whole table, and return whether its quotation marks quote cells, and a line where one does not.

    They do not if one is part of a text, none is in the header or doubled, and without quoting all rows have as many cells as
    the header.
    """
    with open_text(table, layout.encoding, newline="") as stream:
        lines = Lines(stream, layout)
        lines.header()
        if QUOTE in "".join(lines.row) or not any(lines.stray for _ in lines.rows()):
            return True, 0
    with open_text(table, layout.encoding, newline="") as stream:
        plain = all(lines.is_whole(line) and QUOTE * 2 not in line for line in stream if line.strip())
    return not plain, lines.number
