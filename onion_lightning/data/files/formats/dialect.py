"""Finds the delimiter and the escape character of a CSV file."""

import csv
import io
import logging
import re
import sys
from typing import Any

from onion_lightning.data.files.columns import Columns, Layout, fold
from onion_lightning.data.files.opening import Table, open_text

__all__ = ["DELIMITERS", "QUOTE", "csv_settings", "find_dialect"]

log = logging.getLogger(__name__)

QUOTE = '"'
DELIMITERS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LOOK_AT = 1 << 18  # characters


def find_dialect(table: Table, layout: Layout, given: Columns) -> Layout:
    """Return a layout with the delimiter and the escape character of a CSV file, from the flags or its first rows.

    The delimiter is the one that gives the wanted columns and the most rows as long as the header. A backslash before a quote
    is an escape character if what follows the quote shows that the cell does not end there. The quotation mark is that of the
    flags: whether marks quote cells shows only in the whole table (see quotes.py).
    """
    csv.field_size_limit(sys.maxsize)  # an article may exceed the csv module's default of 128 KiB
    with open_text(table, layout.encoding, newline="") as stream:
        text = stream.read(LOOK_AT)
        whole = len(text) < LOOK_AT
    quote = QUOTE if given.quotechar is None else given.quotechar
    usual = [sign for sign in dict.fromkeys((DELIMITERS[table.suffix], *NAMES)) if sign != quote]
    delimiters = [given.delimiter.replace("\\t", "\t")] if given.delimiter else usual
    inside = rf"\\{re.escape(quote)}(?![\r\n{re.escape(''.join((quote, *delimiters)))}]|$)"
    escapes = ["\\", ""] if quote and re.search(inside, text) else [""]
    if given.escapechar is not None:
        escapes = [given.escapechar]
    layouts = [
        layout._replace(delimiter=delimiter, escapechar=escape, quotechar=given.quotechar)
        for delimiter in delimiters
        for escape in escapes
    ]
    found = max(layouts, key=lambda one: fit(text, whole, one)) if len(layouts) > 1 else layouts[0]
    if (found.delimiter, found.escapechar) != (delimiters[0], given.escapechar or ""):
        log.info(
            "%s: cells are separated by %s%s; override with --data.delimiter and --data.escapechar.",
            table.name,
            NAMES.get(found.delimiter, repr(found.delimiter)),
            f", and {found.escapechar} escapes quotes" if found.escapechar else "",
        )
    return found


def csv_settings(layout: Layout) -> dict[str, Any]:
    """Return the arguments of `csv.reader` for a layout."""
    settings = {"delimiter": layout.delimiter, "escapechar": layout.escapechar or None}
    if layout.quotechar == "":
        return settings | {"quoting": csv.QUOTE_NONE}
    return settings | {"quotechar": layout.quotechar or QUOTE}


def fit(text: str, whole: bool, layout: Layout) -> tuple[int, float]:
    """Return how well a dialect fits: the number of wanted columns, and the share of rows that are as long as the header."""
    reader = csv.reader(io.StringIO(text, newline=""), **csv_settings(layout))
    rows = [cells for cells in reader if cells]
    if not whole:
        rows = rows[:-1]  # cut off
    header, *others = rows or [[]]
    folded = set(map(fold, header))
    columns = sum(not folded.isdisjoint(names) for names in (layout.headline, layout.article))
    alike = sum(len(cells) == len(header) for cells in others) / max(1, len(others))
    return columns, alike if len(header) > 1 else 0.0
