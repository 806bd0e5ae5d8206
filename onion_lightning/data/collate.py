"""Collates micro-batches: training examples as padded tensors, and headlines to write articles for."""

from typing import TypedDict

import datasets
import torch
from torch.utils.data import Dataset

from onion_lightning.data.sampler import MicroBatch

__all__ = ["IGNORE", "Batch", "ExampleBatches", "HeadlineBatch", "HeadlineBatches", "collate"]

IGNORE = -100  # label of a position that is excluded from the loss


class Batch(TypedDict):
    """The tensors of a micro-batch, each of shape (rows, longest row) and padded on the right.

    `supervised` and `tokens` are counts over the whole global batch, see `MicroBatch`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    supervised: int
    tokens: int


class HeadlineBatch(TypedDict):
    """A batch of headlines. `rows` are their positions in the input, `index` is the batch's number over all ranks."""

    headlines: list[str]
    rows: list[int]
    index: int


class ExampleBatches(Dataset[Batch]):
    """Encoded examples, indexed by micro-batch."""

    def __init__(self, encoded: datasets.Dataset) -> None:
        self.encoded = encoded

    def __getitem__(self, batch: MicroBatch) -> Batch:
        rows = self.encoded[list(batch.rows)]
        return collate(rows["input_ids"], rows["prompt_length"], batch)


class HeadlineBatches(Dataset[HeadlineBatch]):
    """Headlines to write articles for, indexed by micro-batch."""

    def __init__(self, headlines: list[str]) -> None:
        self.headlines = headlines

    def __getitem__(self, batch: MicroBatch) -> HeadlineBatch:
        rows = list(batch.rows)
        return HeadlineBatch(headlines=[self.headlines[i] for i in rows], rows=rows, index=batch.number)


def collate(rows: list[list[int]], prompt_lengths: list[int], batch: MicroBatch) -> Batch:
    """Pad rows on the right with id 0. Mask and labels follow each row's length, never the padding id.

    Args:
        rows: token ids of each row.
        prompt_lengths: number of tokens at the start of each row that are excluded from the loss.
        batch: the micro-batch that the rows belong to.
    """
    shape = (len(rows), max(map(len, rows), default=0))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE)
    for i, (row, prompt_length) in enumerate(zip(rows, prompt_lengths, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, prompt_length : len(row)] = ids[i, prompt_length : len(row)]
    return Batch(input_ids=ids, attention_mask=mask, labels=labels, supervised=batch.supervised, tokens=batch.tokens)
