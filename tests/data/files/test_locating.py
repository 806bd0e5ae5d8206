"""Local paths, and IDs on the Hub."""

import gzip
import json
import zipfile

import pytest

from onion_lightning.data.files.locating import is_hub_id
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv
from tests.data.files.conftest import dump, write_database


@pytest.mark.parametrize(
    "path", ["data/news.json", "data/news.csv.gz", "data/news.zip", "data/a.db::SELECT x FROM y/z"]
)
def test_a_missing_file_with_a_known_suffix_is_not_looked_up_on_the_hub(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OnionError) as error:
        load(path)
    assert str(error.value).startswith(
        f"--data.path {path.split('::')[0]}: no such file or directory; give a file (.csv,"
    )


def test_a_missing_file_in_an_existing_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("data/news")
    (tmp_path / "data").mkdir()
    with pytest.raises(OnionError, match=r"^--data\.path data/news: no such file or directory \(nor is it looked up"):
        load("data/news")


def test_a_directory_may_mix_formats(tmp_path, caplog):
    write_csv(tmp_path / "1.csv", [("One", "t", body(1))], delimiter=";")
    (tmp_path / "2.jsonl.gz").write_bytes(gzip.compress(dump({"headline": "Two", "text": body(2)}).encode()))
    put(tmp_path / "3.json", json.dumps({"data": [{"title": "Three", "story": body(3)}]}))
    with zipfile.ZipFile(tmp_path / "4.zip", "w") as archive:
        archive.writestr("a.tsv", f"title\tselftext\nFour\t{body(4)}\n")
    put(tmp_path / "metadata.json", json.dumps({"name": "news", "license": "none"}))
    put(tmp_path / "notes.txt", "not a table")
    put(tmp_path / "other.json", json.dumps({"title": "news", "licenses": [{"name": "none"}]}))
    write_database(tmp_path / "news.sqlite")
    (tmp_path / ".cache").mkdir()
    write_csv(tmp_path / ".cache" / "5.csv", [("Five", "t", body(5))])
    assert texts(load(tmp_path)) == {"One": body(1), "Two": body(2), "Three": body(3), "Four": body(4)}
    assert caplog.text.count("JSON files that lack the columns are left out: 2 of 6 tables (the first: ") == 1
    assert f"(the first: {tmp_path}/metadata.json: no column named title or headline" in caplog.text
    assert caplog.text.count("news.sqlite is left out: give it as --data.path with a query") == 1


def test_an_archive_without_tables_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "not a table")
    with pytest.raises(OnionError, match=r"a\.zip: the archive contains no \.csv, .* file; add one"):
        load(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.txt.gz", "a.tar.gz", "a"])
def test_an_unsupported_file_is_refused_with_what_is_supported(tmp_path, name):
    with pytest.raises(OnionError, match=r"unsupported file type; convert it to one of \.csv.*, \.xlsx, which may be"):
        load(put(tmp_path / name, "a"))


def test_an_archive_is_read_again_when_it_changes(tmp_path):
    for count in (1, 2):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.csv", "title,content\n" + "".join(f'Egg {i},"{body(i)}"\n' for i in range(count)))
        assert load(tmp_path / "a.zip").read == count
