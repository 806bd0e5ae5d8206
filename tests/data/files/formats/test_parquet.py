"""Rows read from Parquet files."""

import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts


def write(file, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def test_lists_objects_and_bytes_are_read_as_text(tmp_path):
    file = write(
        tmp_path / "a.parquet",
        title=pyarrow.array([b"Egg One", b"Egg Two"], pyarrow.binary()),
        content=[{"rendered": body(1)}, {"rendered": body(2)}],
        body=[["a"], ["b"]],
    )
    assert texts(load(file)) == {"Egg One": body(1), "Egg Two": body(2)}


def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path):
    cells = pyarrow.array([body(1).encode(), b"Caf\xe9"], pyarrow.binary())
    file = write(tmp_path / "a.parquet", title=["Egg One", "Egg Two"], content=cells.view(pyarrow.string()))
    corpus = load(file)
    assert (set(texts(corpus)), corpus.dropped["unreadable"]) == ({"Egg One"}, 1)


def test_a_table_without_the_columns_lists_those_it_has(tmp_path):
    with pytest.raises(OnionError, match="no column named title or headline; the columns are 'a', 'b'; specify"):
        load(write(tmp_path / "a.parquet", a=["x"], b=["y"]))


def test_another_file_is_refused(tmp_path):
    with pytest.raises(OnionError, match="is not a valid Parquet file"):
        load(put(tmp_path / "a.parquet", "a"))
