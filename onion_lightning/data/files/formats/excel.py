"""Reads Excel workbooks."""

import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from onion_lightning.data.files.columns import Layout, Record, read_columns
from onion_lightning.data.files.opening import Table, local_file
from onion_lightning.errors import OnionError, shorten
from onion_lightning.messages import tell_once

__all__ = ["read_excel"]


@contextmanager
def read_excel(table: Table, layout: Layout) -> Iterator[tuple[Collection[str], Iterator[Record]]]:
    """Open an Excel workbook: the names of the columns of its first sheet, and its rows.

    Raises:
        OnionError: openpyxl is not installed, or the file is not a workbook.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise OnionError(
            f"--data.path {table.name}: requires openpyxl; run pip install 'onion_lightning[excel]'."
        ) from error
    with local_file(table) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="openpyxl")  # about styles, and dates beyond the limits of Excel
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError, openpyxl.utils.exceptions.InvalidFileException) as error:
            raise OnionError(
                f"--data.path {table.name}: is not a valid Excel workbook ({shorten(error)}); export it again."
            ) from error
        with closing(book):
            sheet, *others = book.worksheets
            if others:
                tell_once(f"{table.name}: reading the first of {len(others) + 1} sheets, {sheet.title!r}.")
            sheet.reset_dimensions()  # some programs write wrong ones
            rows = (cells for cells in sheet.iter_rows(values_only=True) if any(cell is not None for cell in cells))
            header = ["" if cell is None else str(cell) for cell in next(rows, ())]
            columns = read_columns(header, layout)
            yield header, ({name: cells[at] for at, name in columns.items() if at < len(cells)} for cells in rows)
