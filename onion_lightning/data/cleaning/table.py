"""Cleans the rows of a table: each on its own, then with what is repeated in all of them.

`datasets` caches both steps, keyed by the rows, the version of the cleaner and the settings.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onion_lightning.data.cleaning.boilerplate import CONTEXT, article_keys, find_repeated, headline_keys
from onion_lightning.data.cleaning.headlines import headline_key
from onion_lightning.data.cleaning.rows import CHANGES, CleanRow, Repeated, clean_texts, finish_row
from onion_lightning.data.cleaning.settings import Cleaning
from onion_lightning.data.cleaning.words import has_words, split_words
from onion_lightning.heartbeat import Counter
from onion_lightning.private_api import dataset_fingerprint
from onion_lightning.seeding import hash64

__all__ = ["clean_rows", "column_values", "list_values", "map_rows"]

CLEANER = "4"  # part of the cache key: increment it whenever cleaning changes
TEXTS = {name: datasets.Value("string") for name in ("headline", "article", "problem", "misread")}
KEYS = {name: datasets.List(datasets.Value("int64")) for name in ("lines", "longest", "names")}
FLAGS = {"changes": datasets.Value("int64"), "whole": datasets.Value("bool")}
FIRST = datasets.Features(TEXTS | FLAGS | KEYS)
CLEAN = datasets.Features(TEXTS | FLAGS | {name: datasets.Value("int64") for name in ("headline_key", "article_key")})
BITS = {name: 1 << bit for bit, name in enumerate(CHANGES)}


def clean_rows(rows: datasets.Dataset, how: Cleaning) -> datasets.Dataset:
    """Clean every row.

    Args:
        rows: of `RawRow`s.
        how: the settings.

    Returns:
        The rows, in their order, with `problem` (the reason to drop the row, or ""), `misread` (the encoding that the row was
        repaired from as a whole, or ""), `changes` (a bit mask in the order of `CHANGES`), `whole` (whether the article ends
        where its text does) and a 64-bit key for the headline and for the article.
    """
    first = map_rows(rows, partial(clean_batch, how=how), FIRST, repr(how), "cleaning")
    del rows  # both tables are memory-mapped files, and count as memory while they are in use
    repeated = find_repeats(first)
    key = repr((how, sorted(repeated.lines), sorted(repeated.names)))
    return map_rows(first, partial(finish_batch, repeated=repeated, how=how), CLEAN, key, "removing boilerplate")


def map_rows(
    rows: datasets.Dataset, work: Callable[..., Any], features: datasets.Features, settings: str, name: str
) -> datasets.Dataset:
    """Map batches of rows, or read the result from the cache, and log how far the work is.

    Args:
        rows: to be mapped; only the columns of `features` remain.
        work: takes a batch and a `counter`.
        features: of the result.
        settings: what the result depends on beside the rows.
        name: of the work.
    """
    key = hashlib.sha256(f"{dataset_fingerprint(rows)} {CLEANER} {name} {settings}".encode()).hexdigest()[:16]
    work = partial(work, counter=Counter(name, len(rows)))
    # Unbatched, it takes twice as long.
    return rows.map(work, batched=True, remove_columns=rows.column_names, features=features, new_fingerprint=key)


def clean_batch(batch: dict[str, list[Any]], how: Cleaning, counter: Counter) -> pa.Table:
    counter.begin(len(batch["headline"]))
    rows = zip(*(batch[name] for name in (*TEXTS, "before", "after")), strict=True)
    columns = list(zip(*(clean_first(h or "", a or "", p, m, b, e, how) for h, a, p, m, b, e in rows), strict=True))
    return pa.table(columns, schema=FIRST.arrow_schema)  # `datasets` takes longer to convert lists


def clean_first(
    headline: str, article: str, problem: str, misread: str, before: int, after: int, how: Cleaning
) -> tuple[Any, ...]:
    """Clean a row on its own. Returns the columns of `FIRST`."""
    instructed = (before or after) and "instruction" not in how.skipped
    headline = headline[before : len(headline) - after] if instructed else headline
    row = clean_texts(headline, article, frozenset(how.skipped), misread)
    row.changes.update({"instruction"} if instructed else ())
    problem = problem or ("garbled" if row.garbled else "")
    article, whole = row.article, True
    if row.cut is not None and how.truncated == "cut" and "cut_marker" not in how.skipped:
        article, whole = article[: row.cut], False
        row.changes.add("cut_marker")
    if row.cut is not None and how.truncated == "drop":
        problem = problem or "truncated"
    lines, longest = article_keys(article) if not problem else ([], [0] * CONTEXT)
    names = headline_keys(row.headline) if not problem else []
    return row.headline, article, problem, row.misread, bits(row.changes), whole, lines, longest, names


def bits(changes: set[str]) -> int:
    return sum(map(BITS.__getitem__, changes))


def find_repeats(rows: datasets.Dataset) -> Repeated:
    """Return the keys of lines, labels and ends of headlines that are in many rows."""
    lines, counts = list_values(rows, "lines")
    longest = list_values(rows, "longest")[0].reshape(len(rows), CONTEXT)
    names, name_counts = list_values(rows, "names")
    headlines = np.arange(len(rows))[:, None]
    found = find_repeated(lines, counts, longest), find_repeated(names, name_counts, headlines)
    return Repeated(*(frozenset(keys.tolist()) for keys in found))


def finish_batch(batch: dict[str, list[Any]], repeated: Repeated, how: Cleaning, counter: Counter) -> pa.Table:
    counter.begin(len(batch["headline"]))
    work = partial(clean_last, repeated=repeated, how=how)
    columns = list(zip(*map(work, *(batch[name] for name in (*TEXTS, *FLAGS))), strict=True))
    return pa.table(columns, schema=CLEAN.arrow_schema)


def clean_last(
    headline: str,
    article: str,
    problem: str,
    misread: str,
    changes: int,
    whole: bool,
    repeated: Repeated,
    how: Cleaning,
) -> tuple[Any, ...]:
    """Finish a row. Returns the columns of `CLEAN`."""
    row = finish_row(CleanRow(headline, article, set()), repeated, frozenset(how.skipped))
    words = " ".join(split_words(row.article))
    problem = problem or problem_of(row, how.min_words)
    keys = hash64(headline_key(row.headline)), hash64(words)
    return row.headline, row.article, problem, misread, changes | bits(row.changes), whole, *keys


def problem_of(row: CleanRow, min_words: int) -> str:
    """Return the reason to drop a row that is found in the row alone, or ""."""
    if not row.headline:
        return "missing_headline"
    if row.repeats:
        return "only_headline"
    if not row.article:
        return "missing_article"
    return "" if has_words(row.article, min_words) else "too_short"


def column_values(rows: datasets.Dataset, name: str) -> np.ndarray:
    """Return a whole column as an array of shape (rows,)."""
    return np.asarray(rows.select_columns([name]).with_format("numpy")[:][name])


def list_values(rows: datasets.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a column of lists, one row after another, and the number of values of each row."""
    column = rows.data.column(name)
    return pc.list_flatten(column).to_numpy(), pc.list_value_length(column).to_numpy()
