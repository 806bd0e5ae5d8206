"""Reads a table with the reader for its format, one `RawRow` per row, in order.

A row that cannot be parsed does not fail its table: it is returned with the reason in `problem`.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from onion_lightning.data.files.cells import RawRow
from onion_lightning.data.files.columns import LOOK_AT, Columns, Layout, Record, accepted_names, missing_column
from onion_lightning.data.files.formats.delimited import read_delimited
from onion_lightning.data.files.formats.dialect import DELIMITERS, find_dialect
from onion_lightning.data.files.formats.encodings import detect_encoding
from onion_lightning.data.files.formats.excel import EXCEL, find_sheet, read_excel
from onion_lightning.data.files.formats.json_rows import read_json
from onion_lightning.data.files.formats.parquet import read_parquet
from onion_lightning.data.files.formats.sqlite import SQLITE, read_sqlite
from onion_lightning.data.files.misread import find_misreading
from onion_lightning.data.files.opening import Table
from onion_lightning.data.files.pairs.choosing import choose_pair
from onion_lightning.data.files.pairs.rows import to_row

__all__ = ["JSON", "READERS", "Columns", "Layout", "RawRow", "Table", "find_layout", "read_table"]

# Opens a table: the names of its columns, which records without a header add while they are read, and its rows.
Reader = Callable[[Table, Layout], AbstractContextManager[tuple[Collection[Any], Iterator[Record]]]]

JSON = (".json", ".jsonl", ".ndjson")
READERS: dict[str, Reader] = {
    **dict.fromkeys(DELIMITERS, read_delimited),
    **dict.fromkeys(JSON, read_json),
    ".parquet": read_parquet,
    EXCEL: read_excel,
    **dict.fromkeys(SQLITE, read_sqlite),
}


def find_layout(table: Table, columns: Columns) -> Layout | None:
    """Find out how a table is to be read: its encoding, its delimiter, and how its rows give a headline and an article.

    Returns:
        The layout for `read_table`, or None for a table without rows.

    Raises:
        OnionError: the table cannot be opened, or lacks one of the columns.
    """
    headline, article = accepted_names(columns)
    layout = Layout(headline, article, quiet=True)
    if table.suffix in DELIMITERS or table.suffix in JSON:
        layout = layout._replace(encoding=detect_encoding(table, columns.encoding))
    if table.suffix in DELIMITERS:
        layout = find_dialect(table, layout, columns)
    if table.suffix == EXCEL:
        return find_sheet(table, lambda title: find_columns(table, layout._replace(sheet=title), columns))
    return find_columns(table, layout, columns)


def find_columns(table: Table, layout: Layout, columns: Columns) -> Layout | None:
    """Return how the rows are read; None if there are none."""
    usual = layout.headline, layout.article
    for names_read in (usual, ((), ())):  # all columns only if those with usual names are not enough
        wanted = layout._replace(headline=names_read[0], article=names_read[1])
        with READERS[table.suffix](table, wanted) as (names, records):
            fixed = bool(names)
            first = list(islice(records, LOOK_AT))
        found = choose_pair(wanted, columns, list(names), first, table.name, fixed)
        if found is not None:
            misread = find_misreading([to_row(record, found) for record in first], table.name)
            return found._replace(misread=misread, quiet=False) if first else None
        if not fixed:
            break
    raise missing_column(columns, list(names), first, table.name)


def read_table(table: Table, layout: Layout) -> Iterator[RawRow]:
    """Read a table row by row.

    Raises:
        OnionError: the table is damaged.
    """
    with READERS[table.suffix](table, layout) as (_, records):
        for record in records:
            yield to_row(record, layout)
