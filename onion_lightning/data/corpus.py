"""Cleans, deduplicates and splits the rows of a source.

Cleaning is cached by `datasets`, keyed by the rows and the version of the cleaner. Deduplication and splitting compare
64-bit hashes and are cheap enough to run at every start.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from onion_lightning.data.cleaning import CHANGES, clean_row, headline_key
from onion_lightning.data.files.reading import Columns, RawRow
from onion_lightning.data.files.sources import read_source
from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Counter
from onion_lightning.private_api import dataset_fingerprint

__all__ = ["DROP_REASONS", "SPLITS", "Corpus", "column_values", "load_corpus", "split_of"]

SPLITS = ("train", "validation", "test")
MANY = 3  # an article under this many headlines is boilerplate and loses all its rows; under fewer, the first is kept
CLEANER = "1"  # part of the cache key: increment it whenever cleaning changes
DROP_REASONS = {
    "ragged": "the row has more cells than the header",
    "unreadable": "the row is not a JSON object, or cannot be decoded",
    "not_text": "the headline or the article is a list or an object without an obvious text",
    "missing_headline": "the headline is missing or blank",
    "missing_article": "the article is missing or blank",
    "shared_article": f"the same article appears under {MANY} or more headlines",
    "repeated_headline": "an earlier row has the same headline",
    "repeated_article": "an earlier row has the same article",
    "too_short": "the article has fewer words than --data.min_words",
    "too_long": "the prompt alone fills --data.max_length, or the example exceeds it with --data.overflow drop",
}
CLEAN = datasets.Features(
    {name: datasets.Value("string") for name in ("headline", "article", "problem")}
    | {name: datasets.Value("int64") for name in ("changes", "headline_key", "article_key")}
)
BITS = {name: 1 << bit for bit, name in enumerate(CHANGES)}


@dataclass(frozen=True)
class Corpus:
    """The kept rows by split, and how many rows were read, dropped and cleaned.

    Attributes:
        splits: for each name in `SPLITS`, a dataset with the columns `headline` and `article`.
        read: number of rows read.
        dropped: number of rows dropped for each reason in `DROP_REASONS`.
        cleaned: number of rows, kept or dropped, affected by each change in `CHANGES`.
    """

    splits: dict[str, datasets.Dataset]
    read: int
    dropped: dict[str, int]
    cleaned: dict[str, int]

    @property
    def kept(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


def load_corpus(path: str, columns: Columns, min_words: int, val_fraction: float, test_fraction: float) -> Corpus:
    """Read, clean, deduplicate and split a corpus.

    Args:
        path: the value of `--data.path`: a file, a directory, a dataset ID on the Hub, or `kaggle:OWNER/NAME`.
        columns: names of the headline and the article column; None accepts the usual names.
        min_words: minimum number of words in an article; shorter ones are dropped.
        val_fraction: fraction of headlines, by hash, in the validation split.
        test_fraction: fraction of headlines, by hash, in the test split.

    Raises:
        OnionError: the source cannot be loaded, lacks one of the columns, or no row remains after cleaning.
    """
    rows = clean_rows(read_source(path, columns), min_words)
    reason = find_drop_reasons(rows)
    counts = dict(zip(*np.unique(reason[reason != ""], return_counts=True), strict=True))
    changes = column_values(rows, "changes")
    corpus = Corpus(
        splits=assign_splits(rows, np.flatnonzero(reason == ""), val_fraction, test_fraction),
        read=len(rows),
        dropped={name: int(counts.get(name, 0)) for name in DROP_REASONS},
        cleaned={name: int(((changes >> bit) & 1).sum()) for bit, name in enumerate(CHANGES)},
    )
    if corpus.kept == 0:
        why = ", ".join(f"{count} {name}" for name, count in corpus.dropped.items() if count)
        raise OnionError(
            f"--data.path {path}: no rows remain after cleaning (read: {corpus.read}; dropped: {why}); check the file and"
            f" --data.min_words {min_words}."
        )
    return corpus


def clean_rows(rows: datasets.Dataset, min_words: int) -> datasets.Dataset:
    """Clean every row.

    Returns:
        The rows with `problem` (the reason to drop the row, or ""), `changes` (a bit mask in the order of `CHANGES`) and
        a 64-bit key for the headline and for the article.
    """
    key = hashlib.sha256(f"{dataset_fingerprint(rows)} {CLEANER} {min_words}".encode()).hexdigest()[:16]
    work = partial(clean_batch, min_words=min_words, counter=Counter("cleaning", len(rows)))
    return rows.map(work, batched=True, features=CLEAN, new_fingerprint=key)  # unbatched, it takes twice as long


def clean_batch(batch: dict[str, list[Any]], min_words: int, counter: Counter) -> pa.Table:
    counter.begin(len(batch["headline"]))
    rows = zip(batch["headline"], batch["article"], batch["problem"], strict=True)
    cleaned = [clean_and_check(RawRow(headline=h, article=a, problem=p), min_words) for h, a, p in rows]
    columns = list(zip(*cleaned, strict=True))
    return pa.table(columns, schema=CLEAN.arrow_schema)  # `datasets` takes longer to convert lists


def clean_and_check(row: RawRow, min_words: int) -> tuple[str, str, str, int, int, int]:
    """Clean a row. Returns the columns of `CLEAN`."""
    headline, article, changes = clean_row(row["headline"] or "", row["article"] or "")
    words = article.casefold().split()
    problem = row["problem"]
    if not problem:
        if not headline:
            problem = "missing_headline"
        elif not article:
            problem = "missing_article"
        elif len(words) < min_words:
            problem = "too_short"
    changed = sum(map(BITS.__getitem__, changes))
    return headline, article, problem, changed, hash64(headline_key(headline)), hash64(" ".join(words))


def hash64(text: str) -> int:
    """Return a signed 64-bit hash that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def column_values(rows: datasets.Dataset, name: str) -> np.ndarray:
    """Return a whole column as an array of shape (rows,)."""
    return np.asarray(rows.select_columns([name]).with_format("numpy")[:][name])


def find_drop_reasons(rows: datasets.Dataset) -> np.ndarray:
    """Return the reason to drop each row, shape (rows,); "" for the rows to keep."""
    reason = column_values(rows, "problem").astype("U24")
    headlines, articles = column_values(rows, "headline_key"), column_values(rows, "article_key")
    pairs = np.unique(np.stack([articles, headlines], axis=1)[reason == ""], axis=0)  # (distinct pairs, 2)
    shared, count = np.unique(pairs[:, 0], return_counts=True)
    reason[(reason == "") & np.isin(articles, shared[count >= MANY])] = "shared_article"
    for name, keys in (("repeated_headline", headlines), ("repeated_article", articles)):
        remaining = np.flatnonzero(reason == "")
        first = np.unique(keys[remaining], return_index=True)[1]
        reason[np.delete(remaining, first)] = name
    return reason


def split_of(headline: str, val_fraction: float, test_fraction: float) -> str:
    """Return the split of a headline. It depends only on the headline's hash, not on the rest of the corpus."""
    return split_of_key(hash64(headline_key(headline)), val_fraction, test_fraction)


def split_of_key(key: int, val_fraction: float, test_fraction: float) -> str:
    position = (key % 2**64) / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + val_fraction else "train"


def assign_splits(
    rows: datasets.Dataset, kept: np.ndarray, val_fraction: float, test_fraction: float
) -> dict[str, datasets.Dataset]:
    """Split the kept rows by the hash of their headlines.

    A corpus of a few rows may have none in the validation split. Then the training row that comes next is moved there.
    """
    keys = column_values(rows, "headline_key")[kept]
    split = np.array([split_of_key(int(key), val_fraction, test_fraction) for key in keys], dtype="U10")
    train = np.flatnonzero(split == "train")
    if val_fraction > 0 and len(train) > 1 and "validation" not in split:
        nearest = np.argmin(keys[train].astype(np.uint64))  # as in `split_of_key`, modulo 2**64
        split[train[nearest]] = "validation"
    texts = rows.select_columns(["headline", "article"])
    return {name: texts.select(kept[split == name]) for name in SPLITS}
