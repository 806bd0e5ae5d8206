"""Figures of a whole training split: what share of it is trained, what is cut, and what occurs twice."""

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.sampler import GlobalBatchSampler

if TYPE_CHECKING:  # `datasets` takes half a second to import, and `--help` imports this module
    from onion_lightning.data.corpus import Examined

__all__ = [
    "MAX_COMPARED",
    "MAX_DETECTED",
    "DroppedRow",
    "Figures",
    "LongRow",
    "SplitRow",
    "compute_figures",
    "count_languages",
    "count_padding",
    "find_dropped",
    "longest_rows",
    "rows_without_eos",
    "straddling_groups",
]

MAX_COMPARED = 100_000  # rows that are searched for near-duplicates; a million would take minutes
MAX_DETECTED = 2_000  # rows whose language is detected, at about a millisecond each


class Figures(NamedTuple):
    """Counts over the training split.

    Attributes:
        rows: number of rows.
        tokens: number of tokens, without padding.
        supervised: number of tokens that the loss is computed on.
        without_eos: number of rows that have no EOS, because they were cut here or by their source.
        padding: number of padding tokens that the model adds in an epoch.
    """

    rows: int
    tokens: int
    supervised: int
    without_eos: int
    padding: int

    @property
    def supervised_share(self) -> float:
        return self.supervised / self.tokens

    @property
    def without_eos_share(self) -> float:
        return self.without_eos / self.rows

    @property
    def padding_share(self) -> float:
        """Share of the positions that the model computes."""
        return self.padding / (self.tokens + self.padding)


class LongRow(NamedTuple):
    """A training row, its number of tokens before it was cut, and after."""

    headline: str
    full_length: int
    length: int


class SplitRow(NamedTuple):
    """A row and its split."""

    split: str
    headline: str


class DroppedRow(NamedTuple):
    """A dropped row as it was read. A missing cell is an empty string."""

    headline: str
    article: str


def compute_figures(data: OnionDataModule, sampler: GlobalBatchSampler, pads: bool) -> Figures:
    """Return the figures of the training split; the numbers of tokens are those that the loss is divided by."""
    lengths = data.column("train", "length")
    return Figures(
        rows=len(lengths),
        tokens=int(lengths.sum()),
        supervised=int((lengths - data.column("train", "prompt_length")).sum()),
        without_eos=int(rows_without_eos(data).sum()),
        padding=count_padding(sampler, lengths) if pads else 0,
    )


def rows_without_eos(data: OnionDataModule) -> np.ndarray:
    """Return whether each training row has no EOS, (rows,): it was cut to `--data.max_length`, or by its source."""
    from onion_lightning.data.corpus import column_values  # late: `--help` imports this module

    cut = data.column("train", "full_length") > data.column("train", "length")
    return np.asarray(cut | ~column_values(data.texts["train"], "whole"))


def count_padding(sampler: GlobalBatchSampler, row_lengths: np.ndarray) -> int:
    """Return the number of padding tokens of an epoch, if the rows of a micro-batch are padded to the longest."""
    lengths = (row_lengths[list(batch.rows)] for batch in sampler if batch.rows)
    return sum(int((part.max() - part).sum()) for part in lengths)


def longest_rows(data: OnionDataModule, count: int) -> list[LongRow]:
    """Return the training rows with the most tokens before they are cut, the longest first."""
    full, length = data.column("train", "full_length"), data.column("train", "length")
    longest = np.argsort(-full, kind="stable")[:count].tolist()
    headlines = [data.texts["train"][row]["headline"] for row in longest]
    return [
        LongRow(headline, int(full[row]), int(length[row])) for headline, row in zip(headlines, longest, strict=True)
    ]


def straddling_groups(data: OnionDataModule) -> list[list[SplitRow]]:
    """Return the groups of near-duplicate articles whose rows are not all in the same split.

    Of a large corpus, the held-out rows come first, and training rows up to `MAX_COMPARED`.
    """
    from onion_lightning.data.corpus import SPLITS  # late: `--help` imports this module
    from onion_lightning.data.duplicates import near_duplicates

    held_out_first = ((split, row) for split in reversed(SPLITS) for row in data.texts[split])
    rows = [(SplitRow(split, row["headline"]), row["article"]) for split, row in islice(held_out_first, MAX_COMPARED)]
    found = [[rows[at][0] for at in group] for group in near_duplicates([article for _, article in rows])]
    return [group for group in found if len({row.split for row in group}) > 1]


def count_languages(data: OnionDataModule) -> dict[str, int]:
    """Return the number of kept rows in each language, the most frequent first.

    Of a large corpus, rows at equal distances are looked at.
    """
    from onion_lightning.data.cleaning.languages import detect_language  # late: `--help` imports this module

    found: Counter[str] = Counter()
    step = -(-sum(map(len, data.texts.values())) // MAX_DETECTED)
    for rows in data.texts.values():
        found.update(map(detect_language, rows[::step]["article"]))
    return dict(found.most_common())


def find_dropped(data: OnionDataModule, read: "Examined", count: int) -> dict[str, list[DroppedRow]]:
    """Return the first dropped rows of each reason that has any, in the order of the report; none that could not be read."""
    dropped = {}
    for reason, rows in data.report.dropped.items():
        if rows:
            found = np.flatnonzero(read.judged.dropped_for(reason))[:count].tolist()
            if reason == "too_long":
                found = (found + find_too_long(data, read, count))[:count]
            raw = [read.raw[row] for row in found]
            texts = [DroppedRow(row["headline"] or "", row["article"] or "") for row in raw]
            dropped[reason] = [row for row in texts if any(row)]
    return dropped


def find_too_long(data: OnionDataModule, read: "Examined", count: int) -> list[int]:
    """Return the first rows that were kept when they were cleaned, and dropped when they were tokenized."""
    kept = {headline for texts in data.texts.values() for headline in texts["headline"]}
    found: list[int] = []
    for row in np.flatnonzero(read.judged.dropped_for("")).tolist():
        if len(found) == count:
            break
        if read.judged.clean[row]["headline"] not in kept:
            found.append(row)
    return found
