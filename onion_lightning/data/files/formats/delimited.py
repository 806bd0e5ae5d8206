"""Reads tables of delimited cells: CSV and TSV files."""

import csv
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from onion_lightning.data.files.columns import Layout, Record, read_columns
from onion_lightning.data.files.formats.quotes import Lines, quotes_cells
from onion_lightning.data.files.opening import Table, open_text

__all__ = ["read_delimited"]

log = logging.getLogger(__name__)

RAGGED = 0.01  # share of rows with more cells than the header, above which a warning is logged


@contextmanager
def read_delimited(table: Table, layout: Layout) -> Iterator[tuple[list[str], Iterator[Record]]]:
    """Open a CSV file: the names of its columns, and its rows."""
    csv.field_size_limit(sys.maxsize)  # an article may exceed the csv module's default of 128 KiB
    layout = layout if layout.quiet else find_quotes(table, layout)
    with open_text(table, layout.encoding, newline="") as stream:
        lines = Lines(stream, layout)
        header = lines.header()
        yield header, records(table, layout, header, lines)


def find_quotes(table: Table, layout: Layout) -> Layout:
    """Return a layout without a quotation mark if those in the table are text, and log it."""
    if layout.quotechar is not None:
        return layout
    quoted, line = quotes_cells(table, layout)
    if quoted:
        return layout
    log.warning(
        "%s: quotation marks are read as part of the text: one on line %d quotes no cell, and without quoting all rows are as"
        " long as the header; override with --data.quotechar '\"'.",
        *(table.name, line),
    )
    return layout._replace(quotechar="")


def records(table: Table, layout: Layout, header: list[str], lines: Lines) -> Iterator[Record]:
    columns, width = read_columns(header, layout), len(header)
    count, ragged, first_ragged = 0, 0, 0
    for cells in lines.rows():
        if not cells:
            continue
        count += 1
        if any(cell.strip() for cell in cells[width:]):
            ragged += 1
            first_ragged = first_ragged or lines.number
            yield "ragged"
            continue
        cells += [""] * (width - len(cells))
        yield {name: cells[at] for at, name in columns.items()}
    if not layout.quiet:
        report_quotes(table, lines)
    if not layout.quiet and ragged > RAGGED * count:
        log.warning(
            "%s: %d of %d rows have more cells than the header and are dropped (the first is on line %d); if cells contain"
            " unquoted delimiters or escaped quotes, specify --data.delimiter or --data.escapechar.",
            *(table.name, ragged, count, first_ragged),
        )


def report_quotes(table: Table, lines: Lines) -> None:
    """Log what was found about quotation marks in a table that was read to its end."""
    line, count = lines.unclosed
    if line:
        log.warning(
            "%s: the quote opened on line %d is never closed; the %d lines from there on were read as one row; if it is part"
            " of a text, specify --data.quotechar none.",
            *(table.name, line, count),
        )
    if lines.stray:
        log.warning(
            "%s: rows with a quotation mark that is part of the text are read without quoting: %d (the first is on line %d);"
            " if all such marks are part of the text, specify --data.quotechar none.",
            *(table.name, len(lines.stray), lines.stray[0]),
        )
