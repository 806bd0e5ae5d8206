"""Loads the rows of `--data.path`: the packaged sample, local files, or a dataset on the Hugging Face Hub or Kaggle.

Rows read from files are cached by `datasets`, keyed by the bytes of the files.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from onion_lightning.data.files.cache import use_writable_cache
from onion_lightning.data.files.reading import READERS, Columns, RawRow, as_text, find_columns, read_file
from onion_lightning.errors import OnionError, shorten

__all__ = ["file_hash", "find_files", "read_source"]

RAW = datasets.Features({name: datasets.Value("string") for name in RawRow.__annotations__})
SAMPLE = Path(__file__).parent.parent / "sample" / "onion_sample.csv"  # also in an installed package
SUFFIXES = ", ".join(sorted(READERS))


def read_source(path: str, columns: Columns) -> datasets.Dataset:
    """Read all rows of a source as a dataset of `RawRow`s.

    Args:
        path: `sample`, a file, a directory, a dataset ID on the Hub, or `kaggle:OWNER/NAME`.
        columns: names of the headline and the article column; None accepts the usual names.

    Raises:
        OnionError: the source cannot be loaded, contains no rows, or lacks one of the columns.
    """
    if path == "sample":
        return read_files(path, SAMPLE, columns)
    use_writable_cache(path if looks_like_hub_id(path) else None)
    if path.startswith("kaggle:"):
        return read_files(path, Path(download_from_kaggle(path)), columns)
    if looks_like_hub_id(path):
        return read_from_hub(path, columns)
    return read_files(path, Path(path).expanduser(), columns)


def read_files(path: str, folder: Path, columns: Columns) -> datasets.Dataset:
    files = find_files(folder)
    # Checked here because the dataset builder fails without rows, and would report a missing column after its progress bar.
    first_rows = [next(read_file(file, columns), None) for file in files]
    if not any(first_rows):
        raise OnionError(
            f"--data.path {path}: contains no rows; give a table with a headline column and an article column."
        )
    builder = RowsBuilder(files=[str(f) for f in files], hashes=[file_hash(f) for f in files], columns=columns)
    try:
        builder.download_and_prepare()
        return builder.as_dataset("train")
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, OnionError):
            raise error.__cause__ from None
        raise OnionError(
            f"--data.path {path}: could not be read to the end ({error.__cause__}); export it again."
        ) from error


def find_files(path: Path) -> list[Path]:
    """List the tables at a path: the file itself, or all tables below a directory, sorted by name.

    Raises:
        OnionError: the path does not exist, or contains no file of a supported type.
    """
    if not path.exists():
        raise OnionError(
            f"--data.path {path}: no such file or directory; give a CSV, TSV, JSONL or Parquet file, or sample, the packaged"
            " corpus."
        )
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in READERS) if path.is_dir() else [path]
    if not files:
        raise OnionError(f"--data.path {path}: the directory contains no {SUFFIXES} file; add one.")
    for file in files:
        if file.suffix.lower() not in READERS:
            raise OnionError(f"--data.path {file}: unsupported file type; convert it to one of {SUFFIXES}.")
    return files


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file's bytes. It is part of the cache key, so that an edited file is read again."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass
class RowsConfig(datasets.BuilderConfig):
    """What rows are read from. All of it is part of the cache key."""

    files: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    columns: Columns = (None, None)


class RowsBuilder(datasets.ArrowBasedBuilder):
    """Writes rows a thousand at a time, in half the time of `Dataset.from_generator`, which converts each on its own."""

    BUILDER_CONFIG_CLASS = RowsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=RAW)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator("train", gen_kwargs={"files": self.config.files})]

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[int, pa.Table]]:
        rows = chain.from_iterable(read_file(Path(file), self.config.columns) for file in files)
        for number in count():
            table = pa.Table.from_pylist(list(islice(rows, 1000)), schema=RAW.arrow_schema)
            if not len(table):
                return
            yield number, table


def download_from_kaggle(path: str) -> str:
    try:
        import kagglehub
    except ImportError as error:
        raise OnionError(
            f"--data.path {path}: requires kagglehub; run pip install 'onion_lightning[kaggle]'."
        ) from error
    try:
        return str(kagglehub.dataset_download(path.removeprefix("kaggle:")))
    except Exception as error:  # kagglehub raises whatever its HTTP client raises
        message = shorten(error)
        raise OnionError(
            f"--data.path {path}: the download from Kaggle failed ({message}); check the name, the network and your login"
            " (KAGGLE_USERNAME and KAGGLE_KEY, or kagglehub.login()), or download the CSV and give its path."
        ) from error


def looks_like_hub_id(path: str) -> bool:
    plain = path.count("/") == 1 and not path.startswith((".", "/", "~")) and Path(path).suffix.lower() not in READERS
    return plain and not Path(path).exists()


def read_from_hub(path: str, columns: Columns) -> datasets.Dataset:
    try:
        loaded = datasets.load_dataset(path)
    except Exception as error:  # the Hub client raises dozens of kinds
        message = shorten(error)
        raise OnionError(
            f"--data.path {path}: is neither a local path nor a dataset that could be loaded from the Hugging Face Hub"
            f" ({message}); check the name, the network and your login (hf auth login)."
        ) from error
    rows = datasets.concatenate_datasets(list(loaded.values()))
    names = find_columns(rows.column_names, columns, path)
    pick = partial(pick_columns, names=names)
    return rows.map(pick, remove_columns=rows.column_names, features=RAW)


def pick_columns(row: dict[str, Any], names: tuple[str, str]) -> RawRow:
    return RawRow(headline=as_text(row[names[0]]), article=as_text(row[names[1]]), problem="")
