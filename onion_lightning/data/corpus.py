"""Cleans, deduplicates and splits the rows of one or several sources.

Cleaning is cached by `datasets`. Deduplication and splitting compare 64-bit keys and run at every start.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onion_lightning.data.cleaning.headlines import headline_key
from onion_lightning.data.cleaning.languages import detect_language
from onion_lightning.data.cleaning.rows import CHANGES
from onion_lightning.data.cleaning.settings import Cleaning, Filters
from onion_lightning.data.cleaning.table import clean_rows, column_values, list_values, map_rows
from onion_lightning.data.duplicates import BANDS, band_keys, group_rows
from onion_lightning.data.files.reading import Columns
from onion_lightning.data.files.sources import join, read_sources
from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Counter as Progress
from onion_lightning.seeding import hash64

__all__ = [
    "DROP_REASONS",
    "SPLITS",
    "Corpus",
    "Examined",
    "Judged",
    "assign_splits",
    "column_values",
    "examine",
    "load_corpus",
    "split_of",
]

SPLITS = ("train", "validation", "test")
MANY = 3  # an article under this many headlines is boilerplate and loses all its rows; under fewer, the first is kept
DROP_REASONS = {
    "ragged": "the row has more cells than the header",
    "unreadable": "the row is not a JSON object, or cannot be decoded",
    "not_text": "the headline or the article is a list or an object without an obvious text",
    "garbled": "the text is full of control or unassigned characters, and its encoding cannot be repaired",
    "missing_headline": "the headline is missing or blank",
    "missing_article": "the article is missing or blank",
    "only_headline": "the article is nothing but the headline",
    "truncated": "an aggregator cut the article off (“… [+2101 chars]”, “Read the full story”)",
    "shared_article": f"the same article appears under {MANY} or more headlines",
    "repeated_headline": "an earlier row has the same headline",
    "repeated_article": "an earlier row has the same article",
    "too_short": "the article has fewer words than --data.min_words",
    "near_duplicate": "a longer article is nearly the same",
    "other_language": "the article is not in the language of --data.language",
    "too_long": "the prompt alone fills --data.max_length, or the example exceeds it with --data.overflow drop",
}
CODES = {name: code for code, name in enumerate(("", *DROP_REASONS))}  # a byte for each row; "" is kept
BAND_FEATURES = datasets.Features({"bands": datasets.List(datasets.Value("int32"), length=BANDS)})


@dataclass(frozen=True)
class Corpus:
    """The kept rows by split, and how many rows were read, dropped and cleaned.

    Attributes:
        splits: for each name in `SPLITS`, a dataset with the columns `headline`, `article` and `whole`.
        read: number of rows read.
        dropped: number of rows dropped for each reason in `DROP_REASONS`.
        cleaned: number of rows, kept or dropped, affected by each change in `CHANGES`.
        sources: number of rows read from each source.
        source: for each split, the place in `sources` of each row's source, of shape (rows,).
        misread: number of rows repaired as a whole, by the encoding in which their UTF-8 was read.
    """

    splits: dict[str, datasets.Dataset]
    read: int
    dropped: dict[str, int]
    cleaned: dict[str, int]
    sources: dict[str, int]
    source: dict[str, np.ndarray]
    misread: dict[str, int]

    @property
    def kept(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


class Judged(NamedTuple):
    """All rows of the sources, in their order, and what becomes of them.

    Attributes:
        clean: what `clean_rows` returns.
        codes: the reason to drop each row, in `CODES`; int8, (rows,).
        split_key: 64-bit key that decides the split of each row, (rows,).
    """

    clean: datasets.Dataset
    codes: np.ndarray
    split_key: np.ndarray

    def dropped_for(self, reason: str) -> np.ndarray:
        """Return whether each row is dropped for a reason in `DROP_REASONS`, or kept (""); bool, (rows,)."""
        return np.asarray(self.codes == CODES[reason])


class Examined(NamedTuple):
    """All rows of the sources, in their order, before and after they were cleaned.

    Attributes:
        raw: as they were read (`RawRow`).
        judged: as they were cleaned, and what becomes of them.
    """

    raw: datasets.Dataset
    judged: Judged


def load_corpus(
    paths: Sequence[str],
    columns: Columns,
    cleaning: Cleaning,
    filters: Filters,
    val_fraction: float,
    test_fraction: float,
) -> Corpus:
    """Read, clean, deduplicate and split a corpus.

    Args:
        paths: the values of `--data.path`: files, directories, dataset IDs on the Hub, or `kaggle:OWNER/NAME`.
        columns: names of the headline and the article column; None accepts the usual names.
        cleaning: how each row is cleaned.
        filters: which rows are dropped because of others.
        val_fraction: fraction of headlines, by hash, in the validation split.
        test_fraction: fraction of headlines, by hash, in the test split.

    Raises:
        OnionError: a source cannot be loaded, lacks one of the columns, or no row remains after cleaning.
    """
    # What many rows of a source repeat is found in each source. Rows as they were read need not stay: no name is for them.
    raw = read_sources(paths, columns)
    parts = [clean_rows(next(raw), cleaning) for _ in paths]
    rows = judge(join(parts), filters)
    counts = np.bincount(rows.codes, minlength=len(CODES)).tolist()
    changes = column_values(rows.clean, "changes")
    kept = np.flatnonzero(rows.codes == 0)
    splits = assign_splits(rows.split_key[kept], val_fraction, test_fraction)
    places = {name: kept[at] for name, at in splits.items()}
    texts = rows.clean.select_columns(["headline", "article", "whole"])
    ends = np.cumsum([len(part) for part in parts])
    corpus = Corpus(
        splits={name: texts.select(at) for name, at in places.items()},
        read=len(rows.clean),
        dropped={name: counts[CODES[name]] for name in DROP_REASONS},
        cleaned={name: int(((changes >> bit) & 1).sum()) for bit, name in enumerate(CHANGES)},
        sources={path: len(part) for path, part in zip(paths, parts, strict=True)},
        source={name: np.searchsorted(ends, at, side="right") for name, at in places.items()},
        misread=count_misread(rows.clean),
    )
    if corpus.kept == 0:
        why = ", ".join(f"{count} {name}" for name, count in corpus.dropped.items() if count)
        raise OnionError(
            f"--data.path {', '.join(paths)}: no rows remain after cleaning (read: {corpus.read}; dropped: {why}); check the"
            f" file and --data.min_words {cleaning.min_words}."
        )
    return corpus


def examine(paths: Sequence[str], columns: Columns, cleaning: Cleaning, filters: Filters) -> Examined:
    """Read and clean all rows, and decide which are kept. Arguments and errors are those of `load_corpus`."""
    raw = list(read_sources(paths, columns))
    return Examined(join(raw), judge(join([clean_rows(rows, cleaning) for rows in raw]), filters))


def count_misread(clean: datasets.Dataset) -> dict[str, int]:
    found = pc.value_counts(clean.data.column("misread")).to_pylist()
    return {item["values"]: item["counts"] for item in found if item["values"]}


def judge(clean: datasets.Dataset, filters: Filters) -> Judged:
    """Decide which of the cleaned rows are kept, and what decides their split."""
    codes = find_drop_reasons(clean)
    group = group_articles(clean, codes)
    if filters.near_duplicates == "drop":
        drop_shorter(clean, codes, group)
    drop_languages(clean, codes, filters.language)
    return Judged(clean, codes, group_keys(column_values(clean, "headline_key"), group))


def find_drop_reasons(rows: datasets.Dataset) -> np.ndarray:
    """Return the reason to drop each row, in `CODES`; int8, (rows,)."""
    codes = column_codes(rows, "problem")
    headlines, articles = column_values(rows, "headline_key"), column_values(rows, "article_key")
    pairs = np.unique(np.stack([articles, headlines], axis=1)[codes == 0], axis=0)  # (distinct pairs, 2)
    shared, count = np.unique(pairs[:, 0], return_counts=True)
    codes[(codes == 0) & np.isin(articles, shared[count >= MANY])] = CODES["shared_article"]
    for name, keys in (("repeated_headline", headlines), ("repeated_article", articles)):
        remaining = np.flatnonzero(codes == 0)
        first = np.unique(keys[remaining], return_index=True)[1]
        codes[np.delete(remaining, first)] = CODES[name]
    return codes


def column_codes(rows: datasets.Dataset, name: str) -> np.ndarray:
    """Return a column of reasons in `CODES`, int8, (rows,)."""
    found = pc.index_in(rows.data.column(name), pa.array(list(CODES)))
    return np.array(found.to_numpy(), dtype=np.int8)


def group_articles(rows: datasets.Dataset, codes: np.ndarray) -> np.ndarray:
    """Return for each row the first row of its group of near-duplicates, (rows,); dropped rows are in none."""
    group, kept = np.arange(len(rows)), np.flatnonzero(codes == 0)
    if len(kept):
        texts = rows.select_columns(["article"]).select(kept)
        compared = map_rows(texts, band_batch, BAND_FEATURES, "", "comparing")
        bands = list_values(compared, "bands")[0].reshape(len(kept), BANDS)
        group[kept] = kept[group_rows(bands, lambda places: texts[places]["article"])]
    return group


def band_batch(batch: dict[str, list[str]], counter: Progress) -> dict[str, np.ndarray]:
    counter.begin(len(batch["article"]))
    return {"bands": band_keys(batch["article"])}


def drop_shorter(rows: datasets.Dataset, codes: np.ndarray, group: np.ndarray) -> None:
    """Keep the longest row of each group of near-duplicates, of equal ones the first."""
    first, count = np.unique(group, return_counts=True)
    members = np.flatnonzero(np.isin(group, first[count > 1]))
    if not len(members):
        return
    lengths = np.array(list(map(len, rows.select_columns(["article"])[members]["article"])))
    members = members[np.lexsort((members, -lengths))]
    longest = np.unique(group[members], return_index=True)[1]
    codes[np.delete(members, longest)] = CODES["near_duplicate"]


def group_keys(headline_keys: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the smallest headline key of each row's group, (rows,): near-duplicates never straddle the splits."""
    smallest = headline_keys.copy()
    np.minimum.at(smallest, group, headline_keys)
    return smallest[group]


def drop_languages(rows: datasets.Dataset, codes: np.ndarray, language: str) -> None:
    """Drop the rows that are not in a language, or, with `auto`, not in that of most."""
    kept = np.flatnonzero(codes == 0)
    if language == "keep" or not len(kept):
        return
    found = np.array([detect_language(text) for text in rows.select_columns(["article"])[kept]["article"]])
    wanted = Counter(found.tolist()).most_common(1)[0][0] if language == "auto" else language
    codes[kept[found != wanted]] = CODES["other_language"]


def split_of(headline: str, val_fraction: float, test_fraction: float) -> str:
    """Return the split of a headline. It depends only on the headline's hash, not on the rest of the corpus."""
    return split_of_key(hash64(headline_key(headline)), val_fraction, test_fraction)


def split_of_key(key: int, val_fraction: float, test_fraction: float) -> str:
    position = (key % 2**64) / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + val_fraction else "train"


def assign_splits(keys: np.ndarray, val_fraction: float, test_fraction: float) -> dict[str, np.ndarray]:
    """Split rows by their keys, and return their places for each split.

    A corpus of a few rows may have none in the validation split. Then the training row that comes next is moved there.
    """
    split = np.array([split_of_key(int(key), val_fraction, test_fraction) for key in keys], dtype="U10")
    train = np.flatnonzero(split == "train")
    if val_fraction > 0 and len(train) > 1 and "validation" not in split:
        nearest = np.argmin(keys[train].astype(np.uint64))  # as in `split_of_key`, modulo 2**64
        group = keys == keys[train[nearest]]  # of near-duplicates, which stay together
        if group.sum() < len(train):
            split[group] = "validation"
    return {name: np.flatnonzero(split == name) for name in SPLITS}
