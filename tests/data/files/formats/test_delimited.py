"""Rows read from CSV and TSV files."""

from tests.data.conftest import body, load, put, texts, write_csv


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


def test_blank_lines_before_the_header_are_skipped(tmp_path):
    assert load(put(tmp_path / "a.csv", f'\n\n ,\ntitle,content\nEgg,"{body(1)}"\n')).read == 1


def test_an_unclosed_quote_is_reported_with_its_line(tmp_path, caplog):
    text = f'Title,Content\nEgg One,{body(1)}\nEgg Two,"{body(2)}\nEgg Three,{body(3)}\n'
    corpus = load(put(tmp_path / "a.csv", text))
    assert corpus.read == 2
    assert caplog.text.count("the quote opened on line 3 is never closed") == 1


def test_an_escaped_quote_is_not_reported_as_unclosed(tmp_path, caplog):
    load(put(tmp_path / "a.csv", f'title,content\n"Egg \\"One\\" 2\\" Wide","{body(1)}\nSecond line"\n'))
    assert "never closed" not in caplog.text


def test_ragged_rows_above_one_percent_are_reported_with_a_line(tmp_path, caplog):
    rows = [(f"Row {i}", "t", body(i)) for i in range(200)]
    rows[4] = ("Too", "many\nlines", body(6), "cells")
    rows[7] = ("Too", "many", body(7), "cells")
    assert load(write_csv(tmp_path / "a.csv", rows)).dropped["ragged"] == 2
    assert "more cells" not in caplog.text
    rows[9] = ("Too", "many", body(9), "cells")
    assert load(write_csv(tmp_path / "b.csv", rows)).dropped["ragged"] == 3
    assert caplog.text.count("b.csv: 3 of 200 rows have more cells than the header and are dropped") == 1
    assert "(the first is on line 6); if cells contain" in caplog.text
