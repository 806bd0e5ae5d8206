"""The sources that `--data.path` can name, and the cache."""

import sys
import tomllib

import pyarrow
import pyarrow.parquet
import pytest
from setuptools import find_namespace_packages

from onion_lightning.data.files.columns import Columns
from onion_lightning.data.files.sources import SAMPLE, file_hash, read_from_hub
from onion_lightning.errors import OnionError
from tests.conftest import ROOT
from tests.data.conftest import body, load, misread, put, texts, write_csv


def test_a_directory_is_read_as_one_table(tmp_path):
    write_csv(tmp_path / "1.csv", [("One", "t", body(1))])
    (tmp_path / "sub").mkdir()
    write_csv(tmp_path / "sub" / "2.csv", [("Two", "t", body(2)), ("One", "t", body(3))])
    (tmp_path / "notes.txt").write_text("not a table")
    corpus = load(tmp_path)
    assert texts(corpus) == {"One": body(1), "Two": body(2)}
    assert corpus.dropped["repeated_headline"] == 1


def test_an_unchanged_file_is_read_from_the_cache_and_an_edited_file_is_not(tmp_path, monkeypatch):
    file = write_csv(tmp_path / "c.csv", [(f"Row {i}", "t", body(i)) for i in range(5)])
    load(file)
    calls = []
    for step in ("cleaning.table.clean_batch", "cleaning.table.finish_batch", "corpus.band_batch"):
        monkeypatch.setattr(f"onion_lightning.data.{step}", lambda *a, **k: calls.append(a))
    before = file_hash(file)
    assert load(file).kept == 5
    assert calls == []
    monkeypatch.undo()
    write_csv(file, [(f"Row {i}", "t", body(i)) for i in range(6)])
    assert file_hash(file) != before
    assert load(file).kept == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.csv", "no such file"),
        (lambda p: write_csv(p / "x.csv", []), "contains no rows"),
        (lambda p: put(p / "x.txt", "a"), "unsupported file type"),
        (lambda p: p, "the directory contains no"),
    ],
)
def test_a_path_without_rows_gives_a_one_sentence_error(tmp_path, make, message):
    with pytest.raises(OnionError, match=r"^--data\.path ") as error:
        load(make(tmp_path))
    assert message in str(error.value)


def test_a_hub_id_that_cannot_be_loaded_gives_a_one_sentence_error():
    with pytest.raises(OnionError, match=r"^--data\.path someone/no-such-set: is neither a local path nor a dataset"):
        load("someone/no-such-set")


def test_a_dataset_of_the_hub_is_read_like_a_file(tmp_path, caplog):
    caplog.set_level("INFO", "onion_lightning")
    for i, split in enumerate(("train", "test")):
        rows = [{"Title": f"Egg {i}", "content": {"rendered": body(i), "n": 1}, "text": "A summary."}]
        rows.append({"Title": "Egg", "content": {"rendered": None, "n": 1}, "text": None})
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    read = read_from_hub(str(tmp_path), Columns())
    assert [row["article"] for row in read] == [body(0), None, body(1), None]
    assert "the article column is content, which has the longest text in the first 4 rows" in caplog.text
    assert read_from_hub(str(tmp_path), Columns(article="content.n"))[0]["article"] == "1"


def test_a_misread_dataset_of_the_hub_is_found_out_like_a_file(tmp_path):
    rows = [{"title": f"Яйцо {n}", "text": f"Яйцо победило, сообщили чиновники. {body(n)}"} for n in range(9)]
    broken = [{name: misread(text, "cp1251") for name, text in row.items()} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(broken), tmp_path / "train.parquet")
    assert read_from_hub(str(tmp_path), Columns())["misread"] == ["cp1251"] * 9


def test_a_kaggle_path_without_kagglehub_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(OnionError, match=r"pip install 'onion_lightning\[kaggle\]'"):
        load("kaggle:undefinenull/satirical-news-from-the-onion")


def test_the_packaged_corpus_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    assert load("sample").kept > 250


def test_the_packaged_corpus_is_installed_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = "onion_lightning.data.sample"
    assert folder in find_namespace_packages(ROOT, include=settings["packages"]["find"]["include"])
    assert any(SAMPLE.match(pattern) for pattern in settings["package-data"][folder])
