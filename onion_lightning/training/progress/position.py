"""Where a run is, in the user's terms: epochs and optimizer steps from one, and the time remaining."""

import math
import time
from collections.abc import Callable

import lightning.pytorch as pl

from onion_lightning.heartbeat import format_seconds
from onion_lightning.model.optimization.optimizer import total_steps

__all__ = ["Position", "Remaining"]


class Position:
    """The position of `fit` in the whole run; a resumed run continues the count.

    Args:
        trainer: in training.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer
        self.steps = total_steps(trainer)
        in_epoch = max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
        self.epochs = max(1, math.ceil(self.steps / in_epoch))

    @property
    def step(self) -> int:
        """Completed optimizer steps."""
        return self.trainer.global_step

    @property
    def epoch(self) -> int:
        """The current epoch, from 1. Lightning counts on at the end of the last one."""
        return min(self.trainer.current_epoch + 1, self.epochs)

    def __str__(self) -> str:
        return f"epoch {self.epoch} of {self.epochs}, step {self.step} of {self.steps}"


class Remaining:
    """Estimates the remaining time from the mean time per unit since this object was made.

    Args:
        done: units that were done before.
        total: units in all.
        clock: returns the time in seconds.
    """

    def __init__(self, done: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = done
        self.total = total
        self.clock = clock
        self.began = clock()

    def describe(self, done: int) -> str:
        """Return the remaining time in words; nothing before the first unit is done."""
        if done <= self.first:
            return ""
        left = (self.total - done) * (self.clock() - self.began) / (done - self.first)
        return f"{format_seconds(max(left, 0))} remaining"
