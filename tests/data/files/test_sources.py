"""The sources that `--data.path` can name, and the cache."""

import sys

import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.data.files.sources import file_hash, read_from_hub
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, misread, put, texts, write_csv
from tests.data.files.conftest import json_lines


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


def test_a_dataset_of_the_hub_is_read_like_a_file(tmp_path, capsys):
    for i, split in enumerate(("train", "test")):
        rows = [{"Title": f"Egg {i}", "content": {"rendered": body(i), "n": 1}, "text": "A summary."}]
        rows.append({"Title": "Egg", "content": {"rendered": None, "n": 1}, "text": None})
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    read = read_from_hub(str(tmp_path), Columns())
    assert [row["article"] for row in read] == [body(0), None, body(1), None]
    assert "the article column is content, which has the longest text in the first 4 rows" in capsys.readouterr().err
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


def test_a_dataset_that_is_attached_to_a_notebook_on_kaggle_is_read_without_kagglehub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    monkeypatch.setattr("onion_lightning.data.files.locating.KAGGLE_INPUT", tmp_path)
    (tmp_path / "satire").mkdir()
    write_csv(tmp_path / "satire" / "a.csv", [("One", "t", body(1)), ("Two", "t", body(2))])
    assert load("kaggle:someone/satire").kept == 2
    with pytest.raises(OnionError, match="or, in a notebook on Kaggle, attach the dataset"):
        load("kaggle:someone/others")


def test_several_sources_are_one_corpus(tmp_path):
    nearly = f"{body(2)} Eggs were not available for comment, and neither were the hens that had laid them on Monday morning."
    first = write_csv(tmp_path / "first.csv", [("One", "t", body(1)), ("Two", "t", nearly)])
    lines = [{"headline": "Twice", "body": f"{nearly} Again."}, {"headline": "One", "body": body(3)}]
    lines += [{"headline": f"More {i}", "body": body(i)} for i in range(5, 9)]
    second = put(tmp_path / "more.jsonl", json_lines(lines))
    corpus = load(first, second)
    assert set(texts(corpus)) == {"One", "Twice", "More 5", "More 6", "More 7", "More 8"}
    assert texts(corpus)["One"] == body(1)  # the first source comes first
    assert (corpus.dropped["repeated_headline"], corpus.dropped["near_duplicate"]) == (1, 1)
    assert corpus.sources == {str(first): 2, str(second): 6}
    found = {
        row["headline"]: int(source)
        for split, rows in corpus.splits.items()
        for row, source in zip(rows, corpus.source[split], strict=True)
    }
    assert found == {name: int(name != "One") for name in texts(corpus)}


def test_near_duplicates_in_two_sources_are_in_one_split(tmp_path):
    text = " ".join(body(i) for i in range(4))
    files = [write_csv(tmp_path / f"{at}.csv", [(f"Row {at}", "t", f"{text} {at}.")]) for at in range(12)]
    corpus = load(*files, near_duplicates="keep", val_fraction=0.4, test_fraction=0.3)
    assert corpus.kept == 12
    assert [len(rows) for rows in corpus.splits.values()].count(0) == 2


def test_a_source_is_cleaned_like_a_corpus_of_its_own_and_read_from_its_cache(tmp_path, monkeypatch):
    small = write_csv(tmp_path / "a.csv", [(f"Egg {i}", "t", f"{body(i)}\nThe Daily Egg") for i in range(6)])
    large = write_csv(tmp_path / "b.csv", [(f"Row {i}", "t", body(i)) for i in range(1000, 3000)])
    alone = load(small)
    assert alone.cleaned["boilerplate"] == 6
    load(large)
    for step in ("cleaning.table.clean_batch", "cleaning.table.finish_batch"):
        monkeypatch.setattr(f"onion_lightning.data.{step}", lambda *a, **k: pytest.fail("cleaned again"))
    both = load(small, large)
    assert both.cleaned["boilerplate"] == 6  # 6 of 2,006 articles are too few
    assert texts(alone).items() <= texts(both).items()


def test_the_joined_rows_are_read_from_the_cache(tmp_path, monkeypatch):
    files = [write_csv(tmp_path / f"{at}.csv", [(f"Row {at}", "t", body(at))]) for at in range(3)]
    load(*files)
    monkeypatch.setattr("onion_lightning.data.corpus.band_batch", lambda *a, **k: pytest.fail("compared again"))
    assert load(*files).kept == 3


def test_an_error_names_the_source_that_it_is_about(tmp_path):
    good = write_csv(tmp_path / "a.csv", [("One", "t", body(1))])
    with pytest.raises(OnionError, match=rf"^--data\.path {tmp_path}/none\.csv: no such file"):
        load(good, tmp_path / "none.csv")
    with pytest.raises(OnionError, match=r"b\.csv: no column named content"):
        load(good, write_csv(tmp_path / "b.csv", [("One", "t", body(1))], ("title", "t", "x")))
    with pytest.raises(OnionError, match=r"^--data\.path \S+/a\.csv, \S+/c\.csv: no rows remain"):
        load(good, write_csv(tmp_path / "c.csv", [("One", "t", body(1))]), min_words=1000)


def test_the_packaged_corpus_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    assert load("sample").kept > 250
