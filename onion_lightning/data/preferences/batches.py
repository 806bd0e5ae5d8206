"""Batches of preference pairs. A global batch counts pairs, and both articles of a pair are in one micro-batch."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from onion_lightning.data.collate import Batch, ExampleBatches, collate
from onion_lightning.data.sampler import GlobalBatchSampler, HeldOutSampler, MicroBatch

__all__ = ["HeldOutPairSampler", "PairBatch", "PairBatches", "PairSampler", "sum_pairs"]


class PairBatch(Batch):
    """A micro-batch whose rows are the chosen and the rejected article of one pair after another.

    `supervised` is the number of tokens of all chosen articles in the global batch.

    Attributes:
        article_lengths: number of supervised tokens of each row.
        lengths: the same, (pairs, 2).
        reference: log-probability of each supervised token under the reference, (supervised,).
        pairs: number of pairs in the whole global batch.
    """

    article_lengths: list[int]
    lengths: torch.Tensor
    reference: torch.Tensor
    pairs: int


class PairBatches(ExampleBatches):
    """Encoded pairs, indexed by micro-batch.

    Args:
        encoded: rows of the articles.
        supervised: number of supervised tokens of each row, (rows,).
        reference: log-probabilities of these tokens under the reference, one row after another; may be filled in later.
    """

    def __init__(self, encoded: Dataset, supervised: np.ndarray, reference: np.ndarray) -> None:
        super().__init__(encoded)
        self.supervised, self.ends = supervised, np.cumsum(supervised)
        self.reference = reference

    def places(self, rows: Sequence[int]) -> np.ndarray:
        """Return where the supervised tokens of rows are in the reference, (supervised,)."""
        spans = [np.arange(self.ends[row] - self.supervised[row], self.ends[row]) for row in rows]
        return np.concatenate([np.arange(0), *spans])

    def __getitem__(self, batch: MicroBatch) -> PairBatch:
        rows = self.encoded[list(batch.rows)]
        lengths = [int(self.supervised[row]) for row in batch.rows]
        return PairBatch(
            **collate(rows["input_ids"], rows["prompt_length"], batch),
            article_lengths=lengths,
            lengths=torch.tensor(lengths, dtype=torch.float32).view(-1, 2),
            reference=torch.from_numpy(self.reference[self.places(batch.rows)]),
            pairs=batch.size,
        )


def sum_pairs(values: np.ndarray) -> np.ndarray:
    """Add up a value of the articles of each pair, (pairs,)."""
    return np.asarray(values).reshape(-1, 2).sum(axis=1)


def with_articles(batch: MicroBatch) -> MicroBatch:
    """Return a micro-batch of pairs as one of the rows of their articles."""
    return batch._replace(rows=tuple(row for pair in batch.rows for row in (2 * int(pair), 2 * int(pair) + 1)))


class PairSampler(GlobalBatchSampler):
    """Yields one rank's micro-batches of pairs, as rows of articles. Its arguments count pairs."""

    def __iter__(self) -> Iterator[MicroBatch]:
        return map(with_articles, super().__iter__())


class HeldOutPairSampler(HeldOutSampler):
    """Yields one rank's batches of held-out pairs, as rows of articles. Its arguments count pairs."""

    def __iter__(self) -> Iterator[MicroBatch]:
        return map(with_articles, super().__iter__())
