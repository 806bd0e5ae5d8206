"""Which columns are read."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.data.files.columns import ARTICLE_NAMES, LOOK_AT, Columns
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv


@pytest.mark.parametrize("name", ARTICLE_NAMES)
def test_every_usual_name_of_the_article_column_is_accepted(tmp_path, name):
    assert texts(load(write_csv(tmp_path / "a.csv", [("Egg", body(1))], ("Headline", name.upper())))) == {
        "Egg": body(1)
    }


def test_of_several_article_columns_the_longest_is_used_and_named(tmp_path, capsys):
    rows = [(f"Egg {i}", "A summary.", body(i)) for i in range(5)]
    file = write_csv(tmp_path / "a.csv", rows, ("title", "content", "full_text"))
    assert set(texts(load(file)).values()) == {body(i) for i in range(5)}
    line = "the article column is full_text, which has the longest text in the first 5 rows of content and full_text"
    assert capsys.readouterr().err.count(line) == 1
    with pytest.raises(OnionError, match="5 too_short"):
        load(file, columns=Columns(article="content"))


def test_an_article_column_without_text_is_no_rival(tmp_path, capsys):
    rows = [(f"Egg {i}", "", body(i)) for i in range(5)]
    assert load(write_csv(tmp_path / "a.csv", rows, ("title", "content", "story"))).kept == 5
    assert "longest text" not in capsys.readouterr().err


def test_the_longest_column_is_found_in_the_first_rows_alone(tmp_path):
    first = [(f"Egg {i}", body(i), "") for i in range(LOOK_AT)]
    rows = [*first, *((f"Man {i}", "", body(LOOK_AT + i) * 9) for i in range(LOOK_AT))]
    corpus = load(write_csv(tmp_path / "a.csv", rows, ("title", "text", "body")))
    assert corpus.dropped["missing_article"] == LOOK_AT


def test_dots_select_a_field_inside_an_object(tmp_path):
    rows = [{"title": {"plain": "Egg", "rendered": "<b>Egg</b>"}, "post": {"inner": {"Raw": body(1)}}}]
    columns = Columns(headline="title.plain", article="post.inner.raw")
    put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        assert texts(load(tmp_path / name, columns=columns)) == {"Egg": body(1)}


def test_a_column_whose_name_contains_a_dot_is_read(tmp_path):
    file = write_csv(tmp_path / "a.csv", [("Egg", body(1))], ("title.rendered", "content.rendered"))
    columns = Columns("title.rendered", "content.rendered")
    assert texts(load(file, columns=columns)) == {"Egg": body(1)}


def test_a_missing_field_is_reported_with_the_fields_that_exist(tmp_path):
    put(tmp_path / "a.jsonl", json.dumps({"title": "Egg", "post": {"raw": body(1)}}))
    with pytest.raises(OnionError, match=r"no column named post\.html; the columns are 'title', 'post', 'post\.raw'"):
        load(tmp_path / "a.jsonl", columns=Columns(article="post.html"))


@pytest.mark.parametrize("first", ["Area Man Wins", "1"])
def test_a_table_without_a_header_line_is_recognized(tmp_path, first):
    file = write_csv(tmp_path / "a.csv", [("Egg", "t", body(2))], (first, "t", body(1)))
    with pytest.raises(OnionError, match="it seems to have no header line, because its first cells are") as error:
        load(file)
    assert f"{first!r}, 't', {body(1)[:60] + '...'!r}; add a line" in str(error.value)
    assert body(1)[:61] not in str(error.value)
