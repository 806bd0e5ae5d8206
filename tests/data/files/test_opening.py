"""Compressed files and archives."""

import gzip
import zipfile
from pathlib import Path

import pytest
import zstandard

from onion_lightning.data.files.opening import COMPRESSIONS
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv
from tests.data.files.conftest import ROWS, dump, json_lines, objects, write_database


def compress(file: Path, suffix: str) -> Path:
    target = file.with_name(file.name + suffix)
    if suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, f"news/{file.name}")
    else:
        pack = gzip.compress if suffix == ".gz" else zstandard.compress
        target.write_bytes(pack(file.read_bytes()))
    file.unlink()
    return target


def write_every_format(folder: Path) -> list[Path]:
    import openpyxl
    import pyarrow.parquet

    book = openpyxl.Workbook()
    book.active.append(["title", "content"])
    for row in ROWS:
        book.active.append(row)
    book.save(folder / "a.xlsx")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(objects()), folder / "b.parquet")
    write_csv(folder / "c.csv", ROWS, ("title", "content"))
    write_csv(folder / "d.tsv", ROWS, ("title", "content"), delimiter="\t")
    (folder / "e.jsonl").write_text(json_lines(objects()), encoding="utf-8")
    (folder / "f.json").write_text(f"[{','.join(json_lines(objects()).splitlines())}]", encoding="utf-8")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_every_format_can_be_compressed(tmp_path, suffix):
    for file in write_every_format(tmp_path):
        assert set(texts(load(compress(file, suffix)))) == {headline for headline, _ in ROWS}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_database_can_be_compressed(tmp_path, suffix):
    file = compress(write_database(tmp_path / "a.db"), suffix)
    assert load(f"{file}::SELECT name AS title, words AS body FROM posts").kept == 12


def test_all_tables_in_an_archive_are_read(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("news/1.csv", f'title,content\nEgg One,"{body(1)}"\n')
        archive.writestr("news/2.jsonl.gz", gzip.compress(json_lines([{"title": "Egg Two", "text": body(2)}]).encode()))
        archive.writestr("../../3.tsv", f"title\tcontent\nEgg Three\t{body(3)}\n")
        archive.writestr("__MACOSX/news/._1.csv", "not a table")
        archive.writestr("readme.md", "not a table")
        archive.writestr("old.csv.zip", "an archive")
    assert texts(load(tmp_path / "a.zip")) == {"Egg One": body(1), "Egg Two": body(2), "Egg Three": body(3)}
    assert "a.zip::old.csv.zip is left out; extract it first" in caplog.text
    assert list(tmp_path.parent.rglob("3.tsv")) == []


def test_a_table_in_an_archive_is_named_with_its_path(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("news/1.csv", "a,b\n1,2\n")
    with pytest.raises(OnionError, match=r"^--data\.path .*a\.zip::news/1\.csv: no column named title"):
        load(tmp_path / "a.zip")


def test_a_damaged_file_gives_a_one_sentence_error(tmp_path):
    rows = "".join(f'Egg {i},"{body(i)}"\n' for i in range(3000))
    packed = gzip.compress(f"title,content\n{rows}".encode())
    damaged = {
        "short.csv.gz": packed[:-100],
        "text.csv.gz": b"title,content\n",
        "text.csv.zst": b"title,content\n",
        "short.csv.zst": zstandard.compress(f"title,content\n{rows}".encode())[:-100],
        "text.zip": b"title,content\n",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OnionError, match=rf"^--data\.path .*{name}: could not be decompressed \(.+\); download it"):
            load(tmp_path / name)


def test_an_encrypted_archive_is_refused(tmp_path):
    file = compress(write_csv(tmp_path / "a.csv", ROWS, ("title", "content")), ".zip")
    content = bytearray(file.read_bytes())
    for header, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says encrypted
        content[content.index(header) + at] |= 1
    file.write_bytes(content)
    with pytest.raises(OnionError, match="is encrypted; decompress it first"):
        load(file)


def test_a_pointer_of_git_lfs_is_recognized(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("a.csv", "b.parquet", "c.json.gz", "d.zip", "e.db"):
        with pytest.raises(OnionError, match=rf"{name}: is a Git LFS pointer rather than the file; run git lfs pull"):
            load(put(tmp_path / name, pointer))


def test_zstandard_files_of_several_frames_are_read_to_the_end(tmp_path):
    lines = [(dump(row) + "\n").encode() for row in objects()]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, lines)))
    assert load(tmp_path / "a.jsonl.zst").read == len(ROWS)
