"""Finds the delimiter and the escape character of a CSV file."""

import csv
import io
import logging
import re
import sys

from onion_lightning.data.files.columns import Columns, Layout, fold
from onion_lightning.data.files.opening import Table, open_text

__all__ = ["DELIMITERS", "find_dialect"]

log = logging.getLogger(__name__)

DELIMITERS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LOOK_AT = 1 << 18  # characters


def find_dialect(table: Table, layout: Layout, given: Columns) -> Layout:
    """Return a layout with the delimiter and the escape character of a CSV file, from the flags or its first rows.

    The delimiter is the one that gives the wanted columns and the most rows as long as the header. A backslash before a quote
    is an escape character if what follows the quote shows that the cell does not end there.
    """
    csv.field_size_limit(sys.maxsize)  # an article may exceed the csv module's default of 128 KiB
    with open_text(table, layout.encoding, newline="") as stream:
        text = stream.read(LOOK_AT)
        whole = len(text) < LOOK_AT
    default = DELIMITERS[table.suffix]
    delimiters = [given.delimiter.replace("\\t", "\t")] if given.delimiter else list(dict.fromkeys((default, *NAMES)))
    escaped = re.search(rf'\\"(?![\r\n"{re.escape("".join(delimiters))}]|$)', text) is not None
    escapes = ["\\", ""] if escaped else [""]
    if given.escapechar is not None:
        escapes = [given.escapechar]
    dialects = [(delimiter, escape) for delimiter in delimiters for escape in escapes]
    found = max(dialects, key=lambda dialect: fit(text, whole, dialect, layout)) if len(dialects) > 1 else dialects[0]
    if found != (delimiters[0], given.escapechar or ""):
        log.info(
            "%s: cells are separated by %s%s; override with --data.delimiter and --data.escapechar.",
            table.name,
            NAMES.get(found[0], repr(found[0])),
            f", and {found[1]} escapes quotes" if found[1] else "",
        )
    return layout._replace(delimiter=found[0], escapechar=found[1])


def fit(text: str, whole: bool, dialect: tuple[str, str], layout: Layout) -> tuple[int, float]:
    """Return how well a dialect fits: the number of wanted columns, and the share of rows that are as long as the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect[0], escapechar=dialect[1] or None)
    rows = [cells for cells in reader if cells]
    if not whole:
        rows = rows[:-1]  # cut off
    header, *others = rows or [[]]
    folded = set(map(fold, header))
    columns = sum(not folded.isdisjoint(names) for names in (layout.headline, layout.article))
    alike = sum(len(cells) == len(header) for cells in others) / max(1, len(others))
    return columns, alike if len(header) > 1 else 0.0
