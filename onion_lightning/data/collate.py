"""Collates micro-batches: training examples one after another, without padding, and headlines to write articles for."""

from typing import TYPE_CHECKING, TypedDict

import torch
from torch.utils.data import Dataset

from onion_lightning.data.sampler import MicroBatch

if TYPE_CHECKING:
    import datasets

__all__ = ["Batch", "ExampleBatches", "HeadlineBatch", "HeadlineBatches", "collate"]


class Batch(TypedDict):
    """A micro-batch.

    What is computed here would make the host wait for the GPU if it were computed there.

    Attributes:
        input_ids: token ids of all rows, one row after another, without padding; (tokens of the micro-batch,).
        row_lengths: number of tokens of each row.
        targets: ids of the supervised tokens, (supervised,).
        predictors: position in `input_ids` that predicts each of them, (supervised,).
        supervised: number of supervised tokens in the whole global batch, see `MicroBatch`.
        tokens: number of tokens in the whole global batch.
    """

    input_ids: torch.Tensor
    row_lengths: list[int]
    targets: torch.Tensor
    predictors: torch.Tensor
    supervised: int
    tokens: int


class HeadlineBatch(TypedDict):
    """A batch of headlines. `rows` are their positions in the input, `index` is the batch's number over all ranks."""

    headlines: list[str]
    rows: list[int]
    index: int


class ExampleBatches(Dataset[Batch]):
    """Encoded examples, indexed by micro-batch."""

    def __init__(self, encoded: "datasets.Dataset") -> None:
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
    """Concatenate rows. What is supervised follows from their lengths.

    Args:
        rows: token ids of each row.
        prompt_lengths: number of tokens at the start of each row that are excluded from the loss; at least 1.
        batch: the micro-batch that the rows belong to.
    """
    ids: list[int] = []
    targets: list[int] = []
    predictors: list[int] = []
    for row, prompt_length in zip(rows, prompt_lengths, strict=True):
        targets += row[prompt_length:]
        predictors += range(len(ids) + prompt_length - 1, len(ids) + len(row) - 1)
        ids += row
    return Batch(
        input_ids=torch.tensor(ids, dtype=torch.long),
        row_lengths=[len(row) for row in rows],
        targets=torch.tensor(targets, dtype=torch.long),
        predictors=torch.tensor(predictors, dtype=torch.long),
        supervised=batch.supervised,
        tokens=batch.tokens,
    )
