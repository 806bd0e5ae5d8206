"""Which rows form a global batch, a micro-batch and a rank's share, and where in the epoch a run stands.

Global batches come first, by seed and epoch alone. Each is then dealt as evenly as possible to `accumulate * world_size`
slots, rows of similar length together. So the optimizer sees the same rows whatever the number of devices, and a place in
the epoch is a number of global batches, whoever resumes there.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

__all__ = ["GlobalBatchSampler", "HeldOutSampler", "MicroBatch", "accumulation"]


class MicroBatch(NamedTuple):
    """The rows of one forward pass on one rank.

    Attributes:
        rows: indices into the dataset; empty where there are fewer rows than slots.
        supervised: tokens that the loss is taken on, in the whole *global* batch.
        tokens: tokens of the whole global batch, prompts included.
        number: of the batch, counted over all ranks.
    """

    rows: tuple[int, ...]
    supervised: int
    tokens: int
    number: int


def accumulation(global_batch_size: int, micro_batch_size: int, world_size: int) -> int:
    """Micro-batches that each rank takes for one optimizer step."""
    return -(-global_batch_size // (micro_batch_size * world_size))


class GlobalBatchSampler(Sampler[MicroBatch]):
    """Deals an epoch of training rows to one rank.

    Args:
        lengths: (rows,) tokens of each row.
        supervised: (rows,) tokens of each row that the loss is taken on.
        micro_batch_size: most rows of a micro-batch.
        global_batch_size: rows of an optimizer step; the last one of an epoch may have fewer.
        world_size: number of ranks.
        rank: this one.
        seed: with the epoch, decides the order.
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
        self.resume_at = (0, 0)  # epoch, global batches of it that are done

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.lengths) // self.global_batch_size)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Row indices of each global batch of an epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.lengths))
        return [order[at : at + self.global_batch_size] for at in range(0, len(order), self.global_batch_size)]

    def __iter__(self) -> Iterator[MicroBatch]:
        epoch, done = self.resume_at
        start = done if epoch == self.epoch else 0
        for step, batch in enumerate(self.global_batches(self.epoch)[start:], start):
            by_length = batch[np.lexsort((batch, self.lengths[batch]))]
            slots = np.array_split(by_length, self.accumulate * self.world_size)
            for turn in range(self.accumulate):
                slot = turn * self.world_size + self.rank
                yield MicroBatch(
                    rows=tuple(slots[slot].tolist()),
                    supervised=int(self.supervised[batch].sum()),
                    tokens=int(self.lengths[batch].sum()),
                    number=step * len(slots) + slot,
                )


class HeldOutSampler(Sampler[MicroBatch]):
    """Deals held-out rows or headlines to one rank: batches formed once over all rows, rows of similar length together,
    each batch whole to one rank. Ranks get equally many; the last ones may be empty.

    A batch whose number is in `done` is left out. Batches are the same on any number of ranks because a row's figures
    depend on its batch's padding.
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
        left = [MicroBatch(rows, 0, 0, number) for number, rows in enumerate(formed) if number not in done]
        left += [MicroBatch((), 0, 0, -1) for _ in range(-len(left) % world_size)]
        self.batches = left[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[MicroBatch]:
        return iter(self.batches)
