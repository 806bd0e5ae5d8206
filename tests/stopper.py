"""Callbacks that disturb a run from inside: `--trainer.callbacks+=tests.stopper.StopAt`."""

import os
import signal
from typing import Any

import lightning.pytorch as pl
import psutil


class StopAt(pl.Callback):
    """Sends this process a signal during the micro-batch after an optimizer step.

    Args:
        step: the optimizer step.
        signum: the signal.
        rank: the rank that receives it.
    """

    def __init__(self, step: int, signum: int = int(signal.SIGINT), rank: int = 0) -> None:
        self.step = step
        self.signum = signum
        self.rank = rank

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        starts = batch_idx % trainer.accumulate_grad_batches == 0
        if trainer.global_step == self.step and starts and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class KillWandb(pl.Callback):
    """Kills W&B's process after the second step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == 2:
            for child in psutil.Process().children(recursive=True):
                if "wandb" in " ".join(child.cmdline()):
                    child.kill()
                    child.wait()


class CrashAt(pl.Callback):
    """Raises an error inside the accumulation window after an optimizer step.

    Args:
        step: the optimizer step.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and batch_idx % trainer.accumulate_grad_batches:
            raise ZeroDivisionError


class LoseGradient(pl.Callback):
    """Removes the gradient of one adapter weight after the backward pass that follows an optimizer step.

    Args:
        step: the optimizer step.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step == self.step:
            next(parameter for parameter in pl_module.parameters() if parameter.requires_grad).grad = None


class NotHere(pl.Callback):
    """Cannot be built on this machine."""

    def __init__(self) -> None:
        raise RuntimeError("needs a GPU")
