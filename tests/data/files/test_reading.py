"""Rows read from tables of every format."""

import re

import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.data.files.opening import COMPRESSIONS
from onion_lightning.data.files.reading import READERS
from onion_lightning.errors import OnionError
from tests.data.conftest import README, body, load, put, texts, write_csv
from tests.data.files.conftest import ROWS, json_lines, objects


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [(headline, "t", article) for headline, article in ROWS]
    write_csv(tmp_path / "a.csv", rows)
    write_csv(tmp_path / "b.tsv", rows, delimiter="\t")
    (tmp_path / "c.jsonl").write_text(json_lines(objects()), encoding="utf-8")
    table = {"headline": [headline for headline, _ in ROWS], "text": [article for _, article in ROWS]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    write_csv(tmp_path / "e.csv", rows, encoding="utf-8-sig")
    read = [texts(load(tmp_path / name)) for name in ("a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.csv")]
    assert all(one == read[0] for one in read)
    assert len(read[0]) == 12


def test_a_file_that_is_not_utf8_is_read_as_cp1252_with_a_warning(tmp_path, caplog):
    rows = [("Caf\xe9 \x93Open\x94".encode("latin-1").decode("cp1252"), "t", body(1))]
    corpus = load(write_csv(tmp_path / "old.csv", rows, encoding="cp1252"))
    assert set(texts(corpus)) == {"Café “Open”"}
    assert caplog.text.count("not UTF-8") == 1


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


def test_files_with_a_name_in_capitals_are_read(tmp_path):
    assert load(write_csv(tmp_path / "A.CSV", ROWS, ("title", "content"))).kept == len(ROWS)


def test_columns_are_found_by_their_names_alone(tmp_path):
    file = write_csv(tmp_path / "a.csv", [(" Egg", body(1))], (" TITLE ", "\ufeffBody"))
    assert texts(load(file, columns=Columns("title", " body"))) == {"Egg": body(1)}


def test_the_readme_lists_every_format():
    section = README.read_text(encoding="utf-8").split("\n## Formats\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert {suffix for row in rows for suffix in re.findall(r"`(\.\w+)`", row.split(" | ")[0])} == {
        *READERS,
        *COMPRESSIONS,
    }
