"""Reads the sheets of Excel workbooks."""

import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from onion_lightning.data.files.columns import Layout, Record, read_columns
from onion_lightning.data.files.opening import Table, local_file
from onion_lightning.errors import OnionError, shorten
from onion_lightning.messages import tell_once

__all__ = ["EXCEL", "find_sheet", "read_excel"]

EXCEL = ".xlsx"


@contextmanager
def read_excel(table: Table, layout: Layout) -> Iterator[tuple[Collection[str], Iterator[Record]]]:
    """Open the sheet of a workbook that a layout names: the names of its columns, and its rows."""
    with open_workbook(table) as book:
        rows = filled_rows(book[layout.sheet])
        header = read_header(rows)
        columns = read_columns(header, layout)
        yield header, ({name: cells[at] for at, name in columns.items() if at < len(cells)} for cells in rows)


@contextmanager
def open_workbook(table: Table) -> Iterator[Any]:
    """Open an Excel workbook.

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
            yield book


def filled_rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # some programs write wrong ones
    return (cells for cells in sheet.iter_rows(values_only=True) if any(cell is not None for cell in cells))


def read_header(rows: Iterator[tuple[Any, ...]]) -> list[str]:
    return ["" if cell is None else str(cell) for cell in next(rows, ())]


def find_sheet(table: Table, look: Callable[[str], Layout | None]) -> Layout | None:
    """Return the layout of the first sheet of a workbook that has the columns and rows, or of the sheet that is chosen.

    Args:
        table: the workbook.
        look: takes the title of a sheet, and returns its layout, or None if it has no rows. It raises an `OnionError` if the
            sheet lacks a column.

    Raises:
        OnionError: there is no such sheet; the message names the sheets.
    """
    with open_workbook(table) as book:
        headers = {sheet.title: read_header(filled_rows(sheet)) for sheet in book.worksheets}
    titles = choose_titles(table, list(headers))
    refused = []
    for title in titles:
        try:
            found = look(title)
        except OnionError as error:
            refused.append(error)
            continue
        if found is not None:
            if len(titles) > 1:
                tell_once(
                    f"{table.name}: reading sheet {title!r}, the first with the columns, of {join_titles(headers)};"
                    f" {table.name}::SHEET reads another one."
                )
            return found
    if len(refused) < len(titles):
        return None
    raise no_sheet(table, refused, headers)


def choose_titles(table: Table, titles: list[str]) -> list[str]:
    """Return the titles of all sheets, or the one in `FILE.xlsx::SHEET`, whatever its case.

    Raises:
        OnionError: there is no such sheet.
    """
    if table.archived or not table.inner:
        return titles
    chosen = [title for title in titles if title.strip().casefold() == table.inner.casefold()]
    if not chosen:
        raise OnionError(f"--data.path {table.name}: there is no such sheet; give one of {join_titles(titles)}.")
    return chosen[:1]


def no_sheet(table: Table, refused: list[OnionError], headers: dict[str, list[str]]) -> OnionError:
    """Return the error for a workbook of which no sheet, or not the chosen one, has the columns."""
    if len(headers) == 1:
        return refused[0]
    if len(refused) == 1:
        return OnionError(f"{str(refused[0]).rstrip('.')}, or another one of the sheets {join_titles(headers)}.")
    shown = [f"{title!r} ({join_titles(filter(None, header)) or 'empty'})" for title, header in headers.items()]
    return OnionError(
        f"--data.path {table.name}: none of the sheets has a headline and an article column; the first rows of the sheets are"
        f" {', '.join(shown)}; specify the columns with --data.headline_column and --data.article_column, and a sheet with"
        f" {table.name}::SHEET."
    )


def join_titles(titles: Iterable[str]) -> str:
    return ", ".join(map(repr, titles))
