"""Rows read from CSV, TSV, JSONL and Parquet files."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [(f"Row {i} “q” 😀", "t", body(i) + '\nSecond\u2028line, with "quotes" and é') for i in range(12)]
    write_csv(tmp_path / "a.csv", rows)
    write_csv(tmp_path / "b.tsv", rows, delimiter="\t")
    objects = [{"TITLE": h, "Body": a} for h, _, a in rows]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(o, ensure_ascii=False) for o in objects), encoding="utf-8")
    table = {"headline": [h for h, _, _ in rows], "text": [a for _, _, a in rows]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    write_csv(tmp_path / "e.csv", rows, encoding="utf-8-sig")
    read = [texts(load(tmp_path / name)) for name in ("a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.csv")]
    assert all(one == read[0] for one in read)
    assert len(read[0]) == 12


def test_a_file_that_is_not_utf8_is_read_as_cp1252_with_a_warning(tmp_path, caplog):
    rows = [("Caf\xe9 \x93Open\x94".encode("latin-1").decode("cp1252"), "t", body(1))]
    corpus = load(write_csv(tmp_path / "old.csv", rows, encoding="cp1252"))
    assert set(texts(corpus)) == {"Café “Open”"}
    assert "not UTF-8" in caplog.text


def test_invalid_lines_do_not_fail_a_jsonl_file(tmp_path):
    good = json.dumps({"title": "Good", "content": body(1)})
    lines = [
        good,
        "{broken",
        "[1, 2]",
        "",
        '{"title": NaN, "content": "x"}',
        '{"content": "x"}',
        '{"title": null, "content": null}',
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    corpus = load(tmp_path / "x.jsonl")
    assert corpus.dropped["unreadable"] == 2
    assert corpus.dropped["missing_headline"] == 3
    assert corpus.kept == 1


def test_only_the_jsonl_records_that_lack_a_key_are_dropped(tmp_path):
    lines = [{"title": "Lacks"}, {"Title": "Good", "CONTENT": body(1)}, {"headline": "Other Names", "text": body(2)}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = load(tmp_path / "x.jsonl")
    assert set(texts(corpus)) == {"Good", "Other Names"}
    assert corpus.dropped["missing_article"] == 1


def test_rows_that_end_in_a_delimiter_are_kept(tmp_path):
    rows = [(f"Row {i}", "t", body(i), "") for i in range(5)]
    assert load(write_csv(tmp_path / "x.csv", rows)).kept == 5


def test_a_cell_of_a_megabyte_is_read(tmp_path):
    long = "word " * 210_000
    corpus = load(write_csv(tmp_path / "big.csv", [("Big", "t", long)]))
    assert texts(corpus) == {"Big": long.strip()}


def test_a_quoted_newline_does_not_start_a_new_row(tmp_path):
    corpus = load(
        write_csv(tmp_path / "a.csv", [["Egg Wins", "t", f"{body(1)}\n\nSecond, line"], ["Egg Two", "t", body(2)]])
    )
    assert corpus.read == 2
    assert texts(corpus)["Egg Wins"].endswith("\n\nSecond, line")


def test_an_unclosed_quote_is_reported_with_its_line(tmp_path, caplog):
    text = f'Title,Content\nEgg One,{body(1)}\nEgg Two,"{body(2)}\nEgg Three,{body(3)}\n'
    corpus = load(put(tmp_path / "a.csv", text))
    assert corpus.read == 2
    assert "the quote opened on line 3 is never closed" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write_csv(p / "x.csv", [], header=("a", "b")), "'a', 'b'"),
        (lambda p: put(p / "empty.csv", ""), "the file is empty"),
        (lambda p: put(p / "empty.jsonl", ""), "the file is empty"),
        (lambda p: put(p / "x.parquet", "a"), "is not a valid Parquet file"),
        (lambda p: put(p / "x.jsonl", "[1, 2]"), "no column named"),
    ],
)
def test_a_file_that_cannot_be_read_gives_a_one_sentence_error(tmp_path, make, message):
    with pytest.raises(OnionError, match=r"^--data\.path ") as error:
        load(make(tmp_path))
    assert message in str(error.value)
