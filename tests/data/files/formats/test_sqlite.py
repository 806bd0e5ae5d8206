"""Rows selected from SQLite databases."""

import pytest

from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts
from tests.data.files.conftest import ROWS, write_database

QUERY = "SELECT name AS title, words AS body FROM posts"


def test_the_rows_that_a_query_selects_are_read(tmp_path):
    file = write_database(tmp_path / "a.db")
    assert set(texts(load(f"{file}::{QUERY} WHERE id > 2 AND name NOT LIKE 'https://%'"))) == {h for h, _ in ROWS[2:]}
    assert load(f"{file}::{QUERY}").read == len(ROWS)  # not from the cache


def test_cells_that_are_not_text_are_converted_or_dropped(tmp_path):
    file = write_database(
        tmp_path / "a.sqlite", [("Egg One", body(1).encode()), ("Egg Two", b"\xff"), ("Egg Three", None)]
    )
    corpus = load(f"{file}::{QUERY}")
    assert list(texts(corpus)) == ["Egg One"]
    assert (corpus.dropped["not_text"], corpus.dropped["missing_article"]) == (1, 1)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("DROP TABLE posts", "only SELECT is allowed"),
        ("SELECT 1; DROP TABLE posts", "You can only execute one statement at a time"),
        ("WITH x AS (SELECT 1) DELETE FROM posts", "not authorized"),
        ("SELECT title FROM posts", "no such column: title"),
        ("SELECT * FROM pragma_table_info('posts')", "not authorized"),
    ],
)
def test_a_query_that_fails_or_writes_is_refused(tmp_path, query, why):
    file = write_database(tmp_path / "a.db")
    before = file.read_bytes()
    with pytest.raises(OnionError, match=r"^--data\.path .*a\.db::.*: the query failed \(") as error:
        load(f"{file}::{query}")
    assert why in str(error.value)
    assert file.read_bytes() == before


def test_a_database_without_a_query_lists_its_tables(tmp_path):
    file = write_database(tmp_path / "a.db")
    with pytest.raises(OnionError, match=r"is an SQLite database with the tables posts; give a query, such as"):
        load(file)


@pytest.mark.parametrize("query", ["", f"::{QUERY}"])
def test_another_file_is_refused(tmp_path, query):
    file = put(tmp_path / "a.db", "a" * 2000)
    with pytest.raises(OnionError, match="file is not a database"):
        load(f"{file}{query}")


def test_a_missing_database_is_refused(tmp_path):
    with pytest.raises(OnionError, match=r"^--data\.path .*none\.db: no such file or directory"):
        load(f"{tmp_path / 'none.db'}::{QUERY}")
    assert not (tmp_path / "none.db").exists()
