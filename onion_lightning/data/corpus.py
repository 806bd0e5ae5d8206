"""A corpus: rows read, cleaned, de-duplicated and split, with a report of what became of each.

Reading and cleaning are cached by `datasets`, keyed by the bytes of the files and the version of the cleaner. Which rows
repeat others and who goes into which split is decided anew at each start, from 64-bit keys: it takes no time and no memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from onion_lightning.data.cleaning import CHANGES, clean_row, headline_key
from onion_lightning.data.reading import (
    SUFFIXES,
    Columns,
    RawRow,
    as_text,
    find_columns,
    find_files,
    fingerprint,
    read_file,
)
from onion_lightning.errors import OnionError

__all__ = ["DROP_REASONS", "SPLITS", "Corpus", "load_corpus", "split_of"]

SPLITS = ("train", "validation", "test")
MANY = 3  # an article under so many headlines is boilerplate and goes whole; under two, the first row stays
CLEANER = "1"  # part of the cache's key: raise it whenever cleaning changes
DROP_REASONS = {
    "ragged": "the row has more cells than the header",
    "unreadable": "the line is no JSON object",
    "missing_headline": "no headline, or a blank one",
    "missing_article": "no article, or a blank one",
    "shared_article": f"the same article stands under {MANY} headlines or more",
    "repeated_headline": "an earlier row has this headline",
    "repeated_article": "an earlier row has this article",
    "too_short": "the article has fewer words than --data.min_words",
    "too_long": "longer than --data.max_length (overflow: drop, or the headline alone fills it)",
}
RAW = datasets.Features({name: datasets.Value("string") for name in RawRow.__annotations__})


@dataclass
class Corpus:
    """Kept rows by split, and what was counted on the way.

    Attributes:
        splits: for each of `SPLITS` the rows as a dataset with the columns `headline` and `article`.
        read: number of rows read.
        dropped: number of rows by `DROP_REASONS`.
        cleaned: number of kept or dropped rows that a change of `CHANGES` touched.
    """

    splits: dict[str, datasets.Dataset]
    read: int
    dropped: dict[str, int]
    cleaned: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


def load_corpus(path: str, columns: Columns, min_words: int, val_fraction: float, test_fraction: float) -> Corpus:
    """Read, clean, de-duplicate and split.

    Args:
        path: what `--data.path` takes: a file, a directory, a hub id or `kaggle:OWNER/NAME`.
        columns: names of the headline and the article column; None finds the usual ones.
        min_words: articles with fewer words are dropped.
        val_fraction: share of the headlines, by hash, that goes to validation.
        test_fraction: the same for test.

    Raises:
        OnionError: nothing to read, no such columns, or nothing left after cleaning.
    """
    rows = clean(read(path, columns), min_words)
    reason = drop_repeats(rows)
    counts = dict(zip(*np.unique(reason[reason != ""], return_counts=True), strict=True))
    touched = column(rows, "changes")
    corpus = Corpus(
        splits=assign_splits(rows, np.flatnonzero(reason == ""), val_fraction, test_fraction),
        read=len(rows),
        dropped={name: int(counts.get(name, 0)) for name in DROP_REASONS},
        cleaned={name: int(((touched >> bit) & 1).sum()) for bit, name in enumerate(CHANGES)},
    )
    if corpus.kept == 0:
        why = ", ".join(f"{count} {name}" for name, count in corpus.dropped.items() if count)
        raise OnionError(f"--data.path {path}: nothing is left of {corpus.read} rows after cleaning ({why}).")
    return corpus


def read(path: str, columns: Columns) -> datasets.Dataset:
    """Read all rows of a source as a dataset of `RawRow`s."""
    if path.startswith("kaggle:"):
        path = download_from_kaggle(path)
    elif looks_like_hub_id(path):
        return read_from_hub(path, columns)
    files = find_files(Path(path).expanduser())
    # One without rows is an error in the builder; columns that are missing are said here, before its progress.
    firsts = [next(read_file(file, columns), None) for file in files]
    if not any(firsts):
        raise OnionError(f"--data.path {path}: it has no rows; give a table with headlines and articles.")
    keys = {"files": [str(f) for f in files], "hashes": [fingerprint(f) for f in files], "columns": columns}
    try:
        return datasets.Dataset.from_generator(generate_rows, gen_kwargs=keys, features=RAW, split="train")
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, OnionError):
            raise error.__cause__ from None
        raise OnionError(
            f"--data.path {path}: cannot be read to its end ({error.__cause__}); write it again."
        ) from error


def looks_like_hub_id(path: str) -> bool:
    plain = path.count("/") == 1 and not path.startswith((".", "/", "~")) and Path(path).suffix.lower() not in SUFFIXES
    return plain and not Path(path).exists()


def generate_rows(files: list[str], hashes: list[str], columns: Columns) -> Iterator[RawRow]:
    for file in files:
        yield from read_file(Path(file), (columns[0], columns[1]))


def download_from_kaggle(path: str) -> str:
    try:
        import kagglehub
    except ImportError as error:
        raise OnionError(f"--data.path {path}: needs kagglehub; pip install 'onion_lightning[kaggle]'.") from error
    try:
        return str(kagglehub.dataset_download(path.removeprefix("kaggle:")))
    except Exception as error:  # kagglehub raises whatever its HTTP client does
        message = " ".join(str(error).split())[:200]
        raise OnionError(
            f"--data.path {path}: Kaggle did not give it ({message}); check the name, the network and the login"
            " (KAGGLE_USERNAME and KAGGLE_KEY, or kagglehub.login()), or download the CSV and give its path."
        ) from error


def read_from_hub(path: str, columns: Columns) -> datasets.Dataset:
    try:
        loaded = datasets.load_dataset(path)
    except Exception as error:  # the hub's client raises dozens of kinds
        message = " ".join(str(error).split())[:200]
        raise OnionError(
            f"--data.path {path}: neither a local path nor a data set that the Hugging Face hub gave ({message});"
            " check the name, the network and the login (hf auth login)."
        ) from error
    rows = datasets.concatenate_datasets(list(loaded.values()))
    names = find_columns(rows.column_names, columns, path)
    pick = partial(pick_columns, names=names)
    return rows.map(pick, remove_columns=rows.column_names, features=RAW)


def pick_columns(row: dict[str, Any], names: tuple[str, str]) -> RawRow:
    return RawRow(headline=as_text(row[names[0]]), article=as_text(row[names[1]]), problem="")


def clean(rows: datasets.Dataset, min_words: int) -> datasets.Dataset:
    """Clean every row. Adds `problem` (why it is dropped, or ""), `changes` (bits, in the order of `CHANGES`) and keys."""
    key = hashlib.sha256(f"{rows._fingerprint} {CLEANER} {min_words}".encode()).hexdigest()[:16]
    types = {"headline": "string", "article": "string", "problem": "string"} | dict.fromkeys(KEYS, "int64")
    features = datasets.Features({name: datasets.Value(dtype) for name, dtype in types.items()})
    work = partial(clean_rows, min_words=min_words)
    return rows.map(work, batched=True, features=features, new_fingerprint=key)  # row by row it takes twice as long


KEYS = ("changes", "headline_key", "article_key")


def clean_rows(batch: dict[str, list[Any]], min_words: int) -> dict[str, list[Any]]:
    rows = zip(batch["headline"], batch["article"], batch["problem"], strict=True)
    cleaned = [clean_one(RawRow(headline=h, article=a, problem=p), min_words) for h, a, p in rows]
    return {name: [row[name] for row in cleaned] for name in cleaned[0]}


def clean_one(row: RawRow, min_words: int) -> dict[str, Any]:
    headline, article, changes = clean_row(row["headline"] or "", row["article"] or "")
    problem = row["problem"]
    if not problem:
        if not headline:
            problem = "missing_headline"
        elif not article:
            problem = "missing_article"
        elif len(article.split()) < min_words:
            problem = "too_short"
    return {
        "headline": headline,
        "article": article,
        "problem": problem,
        "changes": sum(1 << bit for bit, name in enumerate(CHANGES) if name in changes),
        "headline_key": hash64(headline_key(headline)),
        "article_key": hash64(" ".join(article.casefold().split())),
    }


def hash64(text: str) -> int:
    """A signed 64-bit hash that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def column(rows: datasets.Dataset, name: str) -> np.ndarray:
    """A whole column, (rows,)."""
    return np.asarray(rows.select_columns([name]).with_format("numpy")[:][name])


def drop_repeats(rows: datasets.Dataset) -> np.ndarray:
    """Find out why each row is dropped.

    Returns:
        (rows,) reasons; "" for the rows that stay.
    """
    reason = column(rows, "problem").astype("U24")
    headlines, articles = column(rows, "headline_key"), column(rows, "article_key")
    pairs = np.unique(np.stack([articles, headlines], axis=1)[reason == ""], axis=0)  # (distinct pairs, 2)
    shared, count = np.unique(pairs[:, 0], return_counts=True)
    reason[(reason == "") & np.isin(articles, shared[count >= MANY])] = "shared_article"
    for name, keys in (("repeated_headline", headlines), ("repeated_article", articles)):
        left = np.flatnonzero(reason == "")
        first = np.unique(keys[left], return_index=True)[1]
        reason[np.delete(left, first)] = name
    return reason


def split_of(headline: str, val_fraction: float, test_fraction: float) -> str:
    """Which of `SPLITS` a headline belongs to: by hash, whatever else the corpus holds."""
    return split_of_key(hash64(headline_key(headline)), val_fraction, test_fraction)


def split_of_key(key: int, val_fraction: float, test_fraction: float) -> str:
    place = (key % 2**64) / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + val_fraction else "train"


def assign_splits(
    rows: datasets.Dataset, kept: np.ndarray, val_fraction: float, test_fraction: float
) -> dict[str, datasets.Dataset]:
    keys = column(rows, "headline_key")[kept]
    place = np.array([split_of_key(int(key), val_fraction, test_fraction) for key in keys])
    texts = rows.select_columns(["headline", "article"])
    return {name: texts.select(kept[place == name]) for name in SPLITS}
