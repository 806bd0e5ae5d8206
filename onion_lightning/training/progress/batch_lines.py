"""Logs the progress of commands other than `fit` as plain lines: batches done, of how many."""

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from onion_lightning.heartbeat import MINUTE, Heartbeat
from onion_lightning.training.progress.position import Remaining

__all__ = ["BatchLines"]

TASKS = {
    "validate": "validation",
    "test": "test",
    "predict": "writing articles",
    "evaluate": "evaluation",
    "memorize": "memorization",
}


class BatchLines(pl.Callback):
    """Logs a line at the start, at least every minute, and at the end.

    Args:
        command: the command that runs.
        clock: returns the time in seconds.
    """

    def __init__(self, command: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.task = TASKS[command]
        self.clock = clock
        self.done = self.total = 0  # batches of this rank
        self.remaining = Remaining(0, 0, clock)
        self.heart = Heartbeat(self.line, MINUTE, clock)

    def line(self) -> str:
        """Return the current line."""
        counts = f"{self.task}: {self.done} of {self.total} batch{'es' if self.total != 1 else ''}"
        left = self.remaining.describe(self.done) if self.done < self.total else ""
        return f"{counts}, {left}" if left else counts

    def begin(self, batches: list[int | float]) -> None:
        self.done, self.total = 0, int(sum(batches))
        self.remaining = Remaining(0, self.total, self.clock)
        self.heart.start()
        self.heart.say(self.line())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer.num_predict_batches)

    def count(self, *args: Any, **kwargs: Any) -> None:
        self.done += 1
        self.heart.beat()

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = count

    def finish(self, *args: Any, **kwargs: Any) -> None:
        """Log the last line, before the results are printed."""
        self.heart.stop()
        self.heart.say(self.line())

    on_validation_end = on_test_end = on_predict_end = finish

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        self.heart.stop()
