"""Delimiters and escape characters."""

import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv

ROWS = [(f"Egg {i}, Man; and Vote", "t", f"{body(i)} Eggs, eggs; eggs.") for i in range(8)]
FOUND = "cells are separated by"


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_and_named(tmp_path, caplog, delimiter, suffix):
    caplog.set_level("INFO", "onion_lightning")
    corpus = load(write_csv(tmp_path / f"a{suffix}", ROWS, delimiter=delimiter))
    assert texts(corpus) == {headline: article for headline, _, article in ROWS}
    usual = (suffix, delimiter) in ((".csv", ","), (".tsv", "\t"))
    assert caplog.text.count(FOUND) == (0 if usual else 1)


@pytest.mark.parametrize("names", [("title", "t", "content"), ("Überschrift", "x", "Inhalt")])
def test_the_delimiter_is_found_whatever_the_columns_are_named(tmp_path, names):
    file = write_csv(tmp_path / "a.csv", ROWS, names, delimiter=";")
    assert load(file, columns=Columns(names[0], names[2])).kept == len(ROWS)


def test_the_error_for_unknown_names_lists_the_columns_that_the_delimiter_gives(tmp_path):
    file = write_csv(tmp_path / "a.csv", ROWS, ("Name", "Day", "Words"), delimiter="|")
    with pytest.raises(OnionError, match="the columns are 'Name', 'Day', 'Words'; specify"):
        load(file)


def test_the_delimiter_that_gives_the_wanted_columns_is_preferred(tmp_path):
    lines = [f"{i},a;Egg {i};" + body(i).replace(",", "") for i in range(5)]
    assert load(put(tmp_path / "a.csv", "\n".join(["id,note;title;content", *lines]))).kept == 5


def test_quotes_that_a_backslash_escapes_are_read(tmp_path, caplog):
    caplog.set_level("INFO", "onion_lightning")
    rows = [(f'Egg {i} "Wins", Man Says', "t", f'{body(i)} "Eggs", he said.') for i in range(8)]
    file = write_csv(tmp_path / "a.csv", rows, doublequote=False, escapechar="\\", quoting=1)
    assert '\\"Wins\\", Man' in file.read_text()
    assert texts(load(file)) == {headline: article for headline, _, article in rows}
    assert caplog.text.count(f"a.csv: {FOUND} commas, and \\ escapes quotes; override with --data.delimiter") == 1


def test_a_backslash_at_the_end_of_a_cell_escapes_nothing(tmp_path, caplog):
    caplog.set_level("INFO", "onion_lightning")
    rows = [(f"Egg {i} \\", f"C:\\{i}\\", f'{body(i)} \\ "Eggs" \\"') for i in range(8)]
    assert texts(load(write_csv(tmp_path / "a.csv", rows, quoting=1))) == {h: a for h, _, a in rows}
    assert FOUND not in caplog.text


def test_flags_override_what_is_found(tmp_path, caplog):
    text = f'title;content|x\n"Egg; \\"One\\"";{body(1)}|1\n'
    file = put(tmp_path / "a.csv", text)
    caplog.set_level("INFO", "onion_lightning")
    columns = Columns("title;content", "x", delimiter="|", escapechar="")
    assert load(file, columns=columns, min_words=1).kept == 1
    assert FOUND not in caplog.text  # nothing was left to find
    columns = Columns("title", "content|x", delimiter=";")
    assert texts(load(file, columns=columns)) == {'Egg; "One"': f"{body(1)}|1"}


def test_a_tab_can_be_given_as_an_escape_sequence(tmp_path):
    file = write_csv(tmp_path / "a.csv", ROWS, delimiter="\t")
    assert load(file, columns=Columns(delimiter="\\t")).kept == len(ROWS)


def test_another_dialect_is_another_key_of_the_cache(tmp_path):
    file = put(tmp_path / "a.csv", f"title|content;text|body\nEgg|{body(1)};Man|{body(2)}\n")
    first = Columns("title|content", "text|body", delimiter=";")
    second = Columns("title", "body", delimiter="|")
    assert list(texts(load(file, columns=first))) == [f"Egg|{body(1)}"]
    assert list(texts(load(file, columns=second))) == ["Egg"]
