"""Loads the rows of `--data.path`: the packaged sample, local files, and datasets on the Hugging Face Hub or Kaggle.

Rows read from files are cached by `datasets`, keyed by the bytes of the files.
"""

import csv
import hashlib
import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from onion_lightning.data.files.cache import use_writable_cache
from onion_lightning.data.files.cells import RawRow
from onion_lightning.data.files.columns import (
    LOOK_AT,
    Columns,
    Layout,
    NoColumnsError,
    Record,
    accepted_names,
    fold,
    missing_column,
    read_columns,
)
from onion_lightning.data.files.locating import attached_dataset, find_tables, is_hub_id
from onion_lightning.data.files.misread import find_misreading
from onion_lightning.data.files.opening import Table
from onion_lightning.data.files.pairs.choosing import choose_pair
from onion_lightning.data.files.pairs.rows import to_row
from onion_lightning.data.files.reading import JSON, find_layout, read_table
from onion_lightning.errors import OnionError, shorten
from onion_lightning.private_api import dataset_fingerprint

__all__ = ["file_hash", "join", "read_sources"]

log = logging.getLogger(__name__)

TEXTS = {name: datasets.Value("string") for name in ("headline", "article", "problem", "misread")}
RAW = datasets.Features(TEXTS | {name: datasets.Value("int32") for name in ("before", "after")})
READER = "5"  # part of the cache key: increment it whenever the same bytes give other rows
SAMPLE = Path(__file__).parent.parent / "sample" / "onion_sample.csv"  # also in an installed package


def read_sources(paths: Sequence[str], columns: Columns) -> Iterator[datasets.Dataset]:
    """Read all rows of each source as a dataset of `RawRow`s.

    Args:
        paths: each is `sample`, a file, a directory, `FILE.db::SELECT ...`, `FILE.xlsx::SHEET`, a dataset ID on the Hub, or
            `kaggle:OWNER/NAME`.
        columns: the columns, and how to read files.

    Raises:
        OnionError: a source cannot be loaded, contains no rows, or lacks one of the columns.
    """
    use_writable_cache(*filter(is_hub_id, paths))
    for path in paths:
        yield read_source(path, Columns(*columns))  # which may be a plain pair


def read_source(path: str, columns: Columns) -> datasets.Dataset:
    if path == "sample":
        return read_files(path, str(SAMPLE), columns)
    if path.startswith("kaggle:"):
        return read_files(path, download_from_kaggle(path), columns)
    return read_from_hub(path, columns) if is_hub_id(path) else read_files(path, os.path.expanduser(path), columns)


def join(parts: list[datasets.Dataset]) -> datasets.Dataset:
    """Return the rows of several datasets as one; a single one, with its place in the cache, is returned as it is."""
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def read_files(path: str, local: str, columns: Columns) -> datasets.Dataset:
    tables = find_layouts(path, find_tables(local), columns)
    # Checked here because the dataset builder fails without rows.
    if not tables:
        raise OnionError(
            f"--data.path {path}: contains no rows; give a table with a headline column and an article column."
        )
    hashes = [file_hash(Path(file)) for file in dict.fromkeys(table.file for table, _ in tables)]
    builder = RowsBuilder(tables=tables, hashes=hashes, reader=READER)
    try:
        builder.download_and_prepare()
        return builder.as_dataset("train")
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, OnionError):
            raise error.__cause__ from None
        raise OnionError(
            f"--data.path {path}: could not be read to the end ({error.__cause__}); export it again."
        ) from error


def find_layouts(path: str, tables: list[Table], columns: Columns) -> list[tuple[Table, Layout]]:
    """Find the layout of each table that has rows.

    Among several tables, JSON files without the columns are left out: they usually describe the others.
    """
    found, left_out = [], []
    for table in tables:
        try:
            layout = find_layout(table, columns)
        except NoColumnsError as error:
            if len(tables) == 1 or table.suffix not in JSON:
                raise
            left_out.append(str(error))
            continue
        except (OSError, ValueError, LookupError, SyntaxError, csv.Error, zipfile.BadZipFile) as error:  # of parsers
            raise OnionError(
                f"--data.path {table.name}: could not be read ({shorten(error)}); export it again."
            ) from error
        if layout is not None:
            found.append((table, layout))
    if left_out:
        log.warning(
            "--data.path %s: JSON files that lack the columns are left out: %d of %d tables (the first: %s)",
            *(path, len(left_out), len(tables), left_out[0].removeprefix("--data.path ")),
        )
    return found


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file's bytes. It is part of the cache key, so that an edited file is read again."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass
class RowsConfig(datasets.BuilderConfig):
    """What rows are read from, and how. All of it is part of the cache key."""

    tables: list[tuple[Table, Layout]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    reader: str = READER


class RowsBuilder(datasets.ArrowBasedBuilder):
    """Writes rows a thousand at a time, in half the time of `Dataset.from_generator`, which converts each on its own."""

    BUILDER_CONFIG_CLASS = RowsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=RAW)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator("train", gen_kwargs={"tables": self.config.tables})]

    def _generate_tables(self, tables: list[tuple[Table, Layout]]) -> Iterator[tuple[int, pa.Table]]:
        rows = chain.from_iterable(read_table(table, layout) for table, layout in tables)
        for number in count():
            table = pa.Table.from_pylist(list(islice(rows, 1000)), schema=RAW.arrow_schema)
            if not len(table):
                return
            yield number, table


def download_from_kaggle(path: str) -> str:
    if attached := attached_dataset(path):
        return str(attached)
    try:
        import kagglehub
    except ImportError as error:
        raise OnionError(
            f"--data.path {path}: requires kagglehub; run pip install 'onion_lightning[kaggle]', or, in a notebook on"
            " Kaggle, attach the dataset."
        ) from error
    try:
        return str(kagglehub.dataset_download(path.removeprefix("kaggle:")))
    except Exception as error:  # kagglehub raises whatever its HTTP client raises
        message = shorten(error)
        raise OnionError(
            f"--data.path {path}: the download from Kaggle failed ({message}); check the name, the network and your login"
            " (KAGGLE_USERNAME and KAGGLE_KEY, or kagglehub.login()), or download the CSV and give its path."
        ) from error


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
    layout = hub_layout(rows, columns, path)
    key = hashlib.sha256(repr((dataset_fingerprint(rows), READER, layout)).encode()).hexdigest()[:16]
    convert = partial(hub_row, layout=layout)
    return rows.map(convert, remove_columns=rows.column_names, features=RAW, new_fingerprint=key)


def hub_layout(rows: datasets.Dataset, columns: Columns, path: str) -> Layout:
    names = rows.column_names
    texts = [name for name in names if not hasattr(rows.features[name], "decode_example")]  # no images, which take long
    for layout in (Layout(*accepted_names(columns)), Layout((), ())):  # all columns only if those are not enough
        wanted = [texts[at] for at in read_columns(texts, layout)]
        head = rows.select_columns(wanted).select(range(min(LOOK_AT, len(rows)))) if wanted else []
        first: list[Record] = [fold_names(row) for row in head]
        found = choose_pair(layout, columns, names, first, path, fixed=True)
        if found is not None:
            return found._replace(misread=find_misreading([to_row(record, found) for record in first], path))
    raise missing_column(columns, names, first, path)


def hub_row(row: dict[str, Any], layout: Layout) -> RawRow:
    return to_row(fold_names(row), layout)


def fold_names(row: dict[str, Any]) -> dict[str, Any]:
    return {fold(name): cell for name, cell in row.items()}
