"""Micro-batches: examples as tensors, and headlines to write articles for."""

from typing import TypedDict

import datasets
import torch
from torch.utils.data import Dataset

from onion_lightning.data.sampler import MicroBatch

__all__ = ["IGNORE", "Batch", "Examples", "HeadlineBatch", "Headlines", "collate"]

IGNORE = -100  # label of a position that the loss is not taken on


class Batch(TypedDict):
    """A micro-batch of examples. Tensors are (rows, longest row), padded on the right."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    supervised: int
    tokens: int


class HeadlineBatch(TypedDict):
    """A batch of headlines. `rows` are their places in the input, `index` the batch's number over all ranks."""

    headlines: list[str]
    rows: list[int]
    index: int


class Examples(Dataset[Batch]):
    """Encoded examples; an item is a whole micro-batch."""

    def __init__(self, encoded: datasets.Dataset) -> None:
        self.encoded = encoded

    def __getitem__(self, batch: MicroBatch) -> Batch:
        rows = self.encoded[list(batch.rows)]
        return collate(rows["input_ids"], rows["prompt_length"], batch)


class Headlines(Dataset[HeadlineBatch]):
    """Headlines to write articles for; an item is a whole batch."""

    def __init__(self, headlines: list[str]) -> None:
        self.headlines = headlines

    def __getitem__(self, batch: MicroBatch) -> HeadlineBatch:
        rows = list(batch.rows)
        return HeadlineBatch(headlines=[self.headlines[i] for i in rows], rows=rows, index=batch.number)


def collate(rows: list[list[int]], prompt_lengths: list[int], batch: MicroBatch) -> Batch:
    """Pad rows on the right with id 0; the mask and the labels go by length, never by the padding's id."""
    shape = (len(rows), max(map(len, rows), default=0))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE)
    for i, (row, prompt_length) in enumerate(zip(rows, prompt_lengths, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, prompt_length : len(row)] = ids[i, prompt_length : len(row)]
    return Batch(input_ids=ids, attention_mask=mask, labels=labels, supervised=batch.supervised, tokens=batch.tokens)
