"""Samplers that group rows into global batches and micro-batches, and distribute the micro-batches over the ranks.

Global batches depend only on the seed and the epoch. Each is split into `accumulate * world_size` micro-batches of about the
same number of tokens. The optimizer therefore sees the same rows at each step on any number of devices, and a run can resume
after any number of global batches on a different number of devices.
"""

import heapq
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
        size: number of rows in the whole global batch.
    """

    rows: tuple[int, ...]
    supervised: int
    tokens: int
    number: int
    size: int = 0


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
        self.micro_batch_size = micro_batch_size
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
        loads = np.zeros(self.world_size, dtype=np.int64)  # tokens of each rank in this epoch
        for step, batch in enumerate(self.global_batches(self.epoch)):
            rows_of_ranks = self.distribute(batch, loads)
            for turn, rows in enumerate(rows_of_ranks[self.rank] if step >= start else []):
                yield MicroBatch(
                    rows=rows,
                    supervised=int(self.supervised[batch].sum()),
                    tokens=int(self.lengths[batch].sum()),
                    number=(step * self.accumulate + turn) * self.world_size + self.rank,
                    size=len(batch),
                )

    def distribute(self, batch: np.ndarray, loads: np.ndarray) -> list[list[tuple[int, ...]]]:
        """Return the micro-batches of each rank for a global batch.

        Of the micro-batches that are computed at the same time, the longest goes to the rank with the fewest tokens so far.

        Args:
            batch: indices of rows.
            loads: tokens of each rank so far, (ranks,); increased by those of this batch.
        """
        parts = split_evenly(batch, self.lengths, self.accumulate * self.world_size, self.micro_batch_size)
        ranks: list[list[tuple[int, ...]]] = [[] for _ in range(self.world_size)]
        for at in range(0, len(parts), self.world_size):
            for part, rank in zip(parts[at : at + self.world_size], np.argsort(loads, kind="stable"), strict=True):
                ranks[rank].append(tuple(part))
                loads[rank] += sum(self.lengths[row] for row in part)
        return ranks


def split_evenly(batch: np.ndarray, lengths: np.ndarray, count: int, most: int) -> list[list[int]]:
    """Split rows into parts of about the same number of tokens: each row, longest first, goes to the shortest part.

    Args:
        batch: indices of rows.
        lengths: number of tokens of every row.
        count: number of parts; some are empty if there are fewer rows.
        most: maximum number of rows in a part.

    Returns:
        Indices of rows, in parts of decreasing number of tokens.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    open_parts = [(0, at) for at in range(count)]  # tokens and index of the parts that have room; a heap
    tokens = [0] * count
    for row in batch[np.lexsort((batch, -lengths[batch]))].tolist():
        _, at = heapq.heappop(open_parts)
        parts[at].append(row)
        tokens[at] += int(lengths[row])
        if len(parts[at]) < most:
            heapq.heappush(open_parts, (tokens[at], at))
    return [parts[at] for at in sorted(range(count), key=lambda at: -tokens[at])]


class HeldOutSampler(Sampler[MicroBatch]):
    """Yields one rank's batches of held-out rows or of headlines.

    Batches are formed over all rows, from rows of similar length, before they are distributed, so they are the same on any
    number of ranks: rounding depends on the other rows of a batch. All ranks get the same number of batches; the last ones
    may be empty.

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
