"""Samplers that group rows into global batches and micro-batches, and distribute the micro-batches over the ranks.

Global batches depend only on the seed and the epoch. Each is split as evenly as possible into `accumulate * world_size`
micro-batches of rows of similar length. The optimizer therefore sees the same rows at each step on any number of devices,
and a run can resume after any number of global batches on a different number of devices.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

__all__ = ["GlobalBatchSampler", "HeldOutSampler", "MicroBatch", "accumulation"]


class MicroBatch(NamedTuple):
    """The rows of one forward pass on one rank.

    Attributes:
        rows: indices into the dataset; empty if the global batch has fewer rows than micro-batches.
        supervised: number of tokens in the whole *global* batch that the loss is computed on.
        tokens: number of tokens in the whole global batch, including prompts.
        number: number of the micro-batch, counted over all ranks.
    """

    rows: tuple[int, ...]
    supervised: int
    tokens: int
    number: int


def accumulation(global_batch_size: int, micro_batch_size: int, world_size: int) -> int:
    """Return the number of micro-batches that each rank processes per optimizer step."""
    return -(-global_batch_size // (micro_batch_size * world_size))


class GlobalBatchSampler(Sampler[MicroBatch]):
    """Yields one rank's micro-batches of a training epoch.

    Args:
        lengths: number of tokens of each row, shape (rows,).
        supervised: number of tokens of each row that the loss is computed on, shape (rows,).
        micro_batch_size: maximum number of rows in a micro-batch.
        global_batch_size: number of rows per optimizer step; the last step of an epoch may have fewer.
        world_size: number of ranks.
        rank: this process's rank.
        seed: together with the epoch, determines the order of the rows.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        supervised: Sequence[int] | np.ndarray,
        micro_batch_size: int,
        global_batch_size: int,
        world_size: int,
        rank: int,
        seed: int,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.supervised = np.asarray(supervised)
        self.global_batch_size = global_batch_size
        self.accumulate = accumulation(global_batch_size, micro_batch_size, world_size)
        self.world_size = world_size
        self.rank = rank
        self.seed = seed
        self.epoch = 0
        self.resume_at = (0, 0)  # epoch, global batches already processed in it

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return -(-len(self.lengths) // self.global_batch_size)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls this before each epoch."""
        self.epoch = epoch

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Return the row indices of each global batch of an epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.lengths))
        return [order[at : at + self.global_batch_size] for at in range(0, len(order), self.global_batch_size)]

    def __iter__(self) -> Iterator[MicroBatch]:
        epoch, done = self.resume_at
        start = done if epoch == self.epoch else 0
        for step, batch in enumerate(self.global_batches(self.epoch)[start:], start):
            by_length = batch[np.lexsort((batch, self.lengths[batch]))]
            parts = np.array_split(by_length, self.accumulate * self.world_size)
            for turn in range(self.accumulate):
                part = turn * self.world_size + self.rank
                yield MicroBatch(
                    rows=tuple(parts[part].tolist()),
                    supervised=int(self.supervised[batch].sum()),
                    tokens=int(self.lengths[batch].sum()),
                    number=step * len(parts) + part,
                )


class HeldOutSampler(Sampler[MicroBatch]):
    """Yields one rank's batches of held-out rows or of headlines.

    Batches are formed over all rows, from rows of similar length, before they are distributed, so they are the same on any
    number of ranks: a row's loss depends on the padding of its batch. All ranks get the same number of batches; the last
    ones may be empty.

    Args:
        lengths: number of tokens of each row, shape (rows,).
        batch_size: maximum number of rows in a batch.
        world_size: number of ranks.
        rank: this process's rank.
        done: numbers of the batches to skip.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        world_size: int,
        rank: int,
        done: Collection[int] = (),
    ) -> None:
        order = np.argsort(np.asarray(lengths), kind="stable")
        formed = [tuple(order[at : at + batch_size].tolist()) for at in range(0, len(order), batch_size)]
        remaining = [MicroBatch(rows, 0, 0, number) for number, rows in enumerate(formed) if number not in done]
        remaining += [MicroBatch((), 0, 0, -1) for _ in range(-len(remaining) % world_size)]
        self.batches = remaining[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[MicroBatch]:
        return iter(self.batches)
