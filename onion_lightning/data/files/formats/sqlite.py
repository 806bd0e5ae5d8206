"""Reads the result of a query on an SQLite database."""

import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from onion_lightning.data.files.columns import Layout, Record, read_columns
from onion_lightning.data.files.opening import Table, local_file
from onion_lightning.errors import OnionError, shorten

__all__ = ["SQLITE", "read_sqlite"]

SQLITE = (".db", ".sqlite", ".sqlite3")
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


@contextmanager
def read_sqlite(table: Table, layout: Layout) -> Iterator[tuple[Collection[str], Iterator[Record]]]:
    """Open the result of a query on an SQLite database, which is opened read-only: the names of its columns, and its rows.

    Raises:
        OnionError: the file is not a database, the query fails, or it does more than select rows.
    """
    with local_file(table) as file, closing(connect(file, table)) as database:
        database.text_factory = lambda text: text.decode("utf-8", "replace")
        if not table.inner:
            raise OnionError(
                f"--data.path {table.name}: is an SQLite database{list_tables(database, table)}; give a query, such as"
                f" --data.path '{table.name}::SELECT title, body FROM articles'."
            )
        if not re.match(r"\s*(select|with)\b", table.inner, re.IGNORECASE):
            raise query_error(table, "only SELECT is allowed")
        database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY)
        try:
            cursor = database.execute(table.inner)
            names = [column[0] for column in cursor.description]
            columns = read_columns(names, layout)
            yield names, ({name: cells[at] for at, name in columns.items()} for cells in cursor)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise query_error(table, shorten(error)) from error


def connect(file: str, table: Table) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"{Path(file).absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise query_error(table, shorten(error)) from error


def query_error(table: Table, why: str) -> OnionError:
    return OnionError(f"--data.path {table.name}: the query failed ({why}); check the file and the query.")


def list_tables(database: sqlite3.Connection, table: Table) -> str:
    try:
        found = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        names = [name for (name,) in found]
    except sqlite3.Error as error:
        raise OnionError(f"--data.path {table.name}: is not an SQLite database ({shorten(error)}).") from error
    return f" with the tables {', '.join(names)}" if names else " without tables"
