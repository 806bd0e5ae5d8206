"""Finds the tables at a local path, and tells such paths from IDs on the Hugging Face Hub."""

import logging
from pathlib import Path

from onion_lightning.data.files.formats.excel import EXCEL
from onion_lightning.data.files.formats.sqlite import SQLITE
from onion_lightning.data.files.opening import ARCHIVE, COMPRESSIONS, Table, check_whole, is_hidden, members, suffix_of
from onion_lightning.data.files.reading import READERS
from onion_lightning.errors import OnionError

__all__ = ["attached_dataset", "find_tables", "is_hub_id"]

log = logging.getLogger(__name__)

KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle puts datasets that are attached to a notebook
SUFFIXES = ", ".join(sorted(READERS))


def find_tables(path: str) -> list[Table]:
    """List the tables at a path: the file itself, all tables below a directory or in a zip archive, or a part of the file.

    Raises:
        OnionError: the path does not exist, or contains no file of a supported type.
    """
    file, part = split_part(path)
    if not file.exists():
        raise missing(path)
    inside = sorted(f for f in file.rglob("*") if f.is_file() and not is_hidden(f.relative_to(file)))
    files = inside if file.is_dir() else [file]
    for one in files:
        if is_table(one.name) or one.suffix.lower() == ARCHIVE:
            check_whole(one)
    if part:
        return [Table(str(file), part)]
    tables = [table for one in files for table in tables_in(one, in_folder=file.is_dir())]
    if not tables and file.is_dir():
        raise OnionError(f"--data.path {path}: the directory contains no {SUFFIXES} file; add one.")
    if not tables and file.suffix.lower() == ARCHIVE:
        raise OnionError(f"--data.path {path}: the archive contains no {SUFFIXES} file; add one.")
    if not tables:
        raise OnionError(
            f"--data.path {path}: unsupported file type; convert it to one of {SUFFIXES}, which may be compressed"
            f" ({', '.join(COMPRESSIONS)})."
        )
    return tables


def tables_in(file: Path, in_folder: bool) -> list[Table]:
    """Return the table in a file, or those in a zip archive. In a folder, a database is skipped: it needs a query."""
    if file.suffix.lower() == ARCHIVE:
        names = members(file)
        for name in names:
            if suffix_of(name) in (ARCHIVE, *SQLITE):
                log.warning("%s::%s is left out; extract it first.", file, name)
        return [Table(str(file), name) for name in names if is_table(name) and suffix_of(name) not in SQLITE]
    if not is_table(file.name):
        return []
    if in_folder and suffix_of(file.name) in SQLITE:
        log.warning("%s is left out: give it as --data.path with a query ('%s::SELECT ...').", file, file)
        return []
    return [Table(str(file))]


def is_table(name: str) -> bool:
    return suffix_of(name) in READERS


def split_part(path: str) -> tuple[Path, str]:
    """Split `FILE.db::SELECT ...` or `FILE.xlsx::SHEET` into the file and the query or sheet, which is "" for other paths."""
    file, _, part = path.partition("::")
    return (Path(file), part.strip()) if suffix_of(file) in (*SQLITE, EXCEL) else (Path(path), "")


def missing(path: str) -> OnionError:
    folder = ""
    if looks_like_id(path):
        folder = f" (nor is it looked up on the Hugging Face Hub, because the folder {Path(path).parent} exists)"
    return OnionError(
        f"--data.path {split_part(path)[0]}: no such file or directory{folder}; give a file ({SUFFIXES}), a directory, or"
        " sample, the packaged corpus."
    )


def attached_dataset(path: str) -> Path | None:
    """Return the folder of a dataset `kaggle:OWNER/NAME` that is attached to a notebook on Kaggle; None elsewhere."""
    folder = KAGGLE_INPUT / path.rpartition("/")[2]
    return folder if folder.is_dir() else None


def is_hub_id(path: str) -> bool:
    """Return whether a path is an ID on the Hub: OWNER/NAME, without a known suffix, where no folder OWNER exists."""
    return looks_like_id(path) and not Path(path).exists() and not Path(path).parent.is_dir()


def looks_like_id(path: str) -> bool:
    known = is_table(path) or Path(path).suffix.lower() == ARCHIVE or "::" in path
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not known
