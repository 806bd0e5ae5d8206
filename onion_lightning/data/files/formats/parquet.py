"""Reads Parquet files."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from onion_lightning.data.files.columns import LOOK_AT, Layout, Record, read_columns
from onion_lightning.data.files.opening import Table, local_file
from onion_lightning.errors import OnionError

__all__ = ["read_parquet"]

ROWS = 1000  # in memory at a time


@contextmanager
def read_parquet(table: Table, layout: Layout) -> Iterator[tuple[Collection[str], Iterator[Record]]]:
    """Open a Parquet file: the names of its columns, and its rows."""
    import pyarrow
    import pyarrow.parquet

    with local_file(table) as file:
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise OnionError(
                f"--data.path {table.name}: is not a valid Parquet file ({error}); export it again."
            ) from error
        with parquet:
            names = parquet.schema_arrow.names
            columns = read_columns(names, layout)
            size = LOOK_AT if layout.quiet else ROWS
            batches = parquet.iter_batches(batch_size=size, columns=[names[at] for at in columns])
            yield names, chain.from_iterable(arrow_rows(batch.columns, list(columns.values())) for batch in batches)


def arrow_rows(columns: list[Any], names: list[str]) -> Iterator[Record]:
    for cells in zip(*columns, strict=True):
        try:
            yield {name: cell.as_py() for name, cell in zip(names, cells, strict=True)}
        except (UnicodeDecodeError, ValueError, OverflowError):  # text that is not UTF-8, a date beyond the year 9999
            yield "unreadable"
