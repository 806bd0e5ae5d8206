"""Rows read from Excel workbooks."""

import sys
import zipfile

import openpyxl
import pytest

from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts


def write(file, *rows, sheets=()):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in sheets:
        book.create_sheet(name).append(["x"])
    book.save(file)
    return file


def test_blank_rows_and_columns_are_skipped_and_numbers_are_text(tmp_path):
    rows = ([], [None, "Headline", "Body"], [None, 1984, body(1)], [], [None, "Egg", body(2)], [None, "Short"])
    corpus = load(write(tmp_path / "a.xlsx", *rows))
    assert texts(corpus) == {"1984": body(1), "Egg": body(2)}
    assert corpus.dropped["missing_article"] == 1


def test_wrong_dimensions_of_a_sheet_are_ignored(tmp_path):
    file = write(tmp_path / "a.xlsx", ["title", "content"], ["Egg", body(1)])
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b'ref="A1:B2"', b'ref="A1:A1"'))
    assert load(file).kept == 1


def test_the_first_sheet_is_read_and_named(tmp_path, capsys):
    file = write(tmp_path / "a.xlsx", ["title", "content"], ["Egg", body(1)], sheets=["Other"])
    assert load(file).kept == 1
    assert capsys.readouterr().err.count("a.xlsx: reading the first of 2 sheets, 'Sheet'.") == 1


def test_another_file_is_refused(tmp_path):
    with pytest.raises(OnionError, match=r"a\.xlsx: is not a valid Excel workbook \(.+\); export it again"):
        load(put(tmp_path / "a.xlsx", "a"))


def test_without_openpyxl_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    file = write(tmp_path / "a.xlsx", ["title", "content"], ["Egg", body(1)])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(OnionError, match=r"a\.xlsx: requires openpyxl; run pip install 'onion_lightning\[excel\]'\.$"):
        load(file)
