"""Helpers that write the same rows in every format."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from tests.data.conftest import body

ROWS = [(f"Row {i} “q” 😀", body(i) + '\nSecond\u2028line, with "quotes" and é') for i in range(12)]


def objects(rows: list[tuple[str, str]] = ROWS) -> list[dict[str, Any]]:
    return [{"TITLE": headline, "Body": article} for headline, article in rows]


def dump(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def json_lines(rows: list[Any]) -> str:
    return "\n".join(map(dump, rows))


def write_database(file: Path, rows: list[tuple[Any, Any]] = ROWS) -> Path:
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, name TEXT, words)")
    database.executemany("INSERT INTO posts (name, words) VALUES (?, ?)", rows)
    database.commit()
    database.close()
    return file
