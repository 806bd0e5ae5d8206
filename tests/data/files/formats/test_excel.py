"""Rows read from Excel workbooks."""

import gzip
import sys
import zipfile

import openpyxl
import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts


def write(file, *rows):
    return write_sheets(file, Sheet=rows)


def write_sheets(file, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
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


NAMES = ["title", "content"]
COVER = [["Articles of 2025"], ["Egg", "Egg"]]


def test_the_first_sheet_with_the_columns_and_rows_is_read_and_named(tmp_path, capsys):
    sheets = {"Cover": COVER, "Blank": [], "Head": [NAMES], "Data": [NAMES, ["Egg", body(1)]]}
    file = write_sheets(tmp_path / "a.xlsx", **sheets, More=[NAMES, ["Two", body(2)]])
    assert texts(load(file)) == {"Egg": body(1)}
    message = "a.xlsx: reading sheet 'Data', the first with the columns, of 'Cover', 'Blank', 'Head', 'Data', 'More'; "
    assert capsys.readouterr().err.count(f"{message}{file}::SHEET reads another one.") == 1


def test_a_sheet_is_chosen_by_its_title(tmp_path, capsys):
    file = write_sheets(tmp_path / "a.xlsx", One=[NAMES, ["Egg", body(1)]], Two=[NAMES, ["Egg Two", body(2)]])
    assert texts(load(f"{file}::two")) == {"Egg Two": body(2)}
    assert "reading sheet" not in capsys.readouterr().err
    assert texts(load(file)) == {"Egg": body(1)}  # from its own place in the cache


def test_a_chosen_sheet_of_a_compressed_workbook_is_read(tmp_path):
    file = write_sheets(tmp_path / "a.xlsx", Cover=COVER, Data=[NAMES, ["Egg", body(1)]])
    (tmp_path / "b.xlsx.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert load(f"{tmp_path / 'b.xlsx.gz'}::Data").kept == 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "",
            "none of the sheets has a headline and an article column; the first rows of the sheets are 'Cover' ('Articles of"
            " 2025'), 'Blank' (empty), 'Data' ('Name', 'Words'); specify the columns with --data.headline_column and"
            " --data.article_column, and a sheet with",
        ),
        ("::Dada", "there is no such sheet; give one of 'Cover', 'Blank', 'Data'."),
        (
            "::Data",
            "no column named title or headline; the columns are 'Name', 'Words'; specify the right one with"
            " --data.headline_column, or, if one column contains headline and article, what is between them with"
            " --data.separator, or another one of the sheets 'Cover', 'Blank', 'Data'.",
        ),
    ],
)
def test_a_refusal_names_the_sheets(tmp_path, part, message):
    file = write_sheets(tmp_path / "a.xlsx", Cover=COVER, Blank=[], Data=[["Name", "Words"], ["Egg", body(1)]])
    with pytest.raises(OnionError, match=r"^--data\.path ") as error:
        load(f"{file}{part}")
    assert f"a.xlsx{part}: {message}" in str(error.value)
    assert load(file, columns=Columns("Name", "Words")).kept == 1


def test_another_file_is_refused(tmp_path):
    with pytest.raises(OnionError, match=r"a\.xlsx: is not a valid Excel workbook \(.+\); export it again"):
        load(put(tmp_path / "a.xlsx", "a"))


def test_without_openpyxl_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    file = write(tmp_path / "a.xlsx", ["title", "content"], ["Egg", body(1)])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(OnionError, match=r"a\.xlsx: requires openpyxl; run pip install 'onion_lightning\[excel\]'\.$"):
        load(file)
