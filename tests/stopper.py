"""Callbacks that disturb a run from inside, and a plugin: `--trainer.callbacks+=tests.stopper.StopAt`."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import torch
from lightning.pytorch.plugins import MixedPrecision


class StopAt(pl.Callback):
    """Sends this process a signal during the micro-batch after an optimizer step, or before a batch of another command.

    Args:
        step: the optimizer step, or the batch.
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

    def on_predict_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class SlowWhile(pl.Callback):
    """Waits before each optimizer step, or batch of headlines, while a file exists, so that a test can disturb the run.

    Args:
        file: the file.
        seconds: how long it waits, unless the file disappears before.
        after: number of optimizer steps before the first that waits.
    """

    def __init__(self, file: str, seconds: float, after: int = 0) -> None:
        self.file = Path(file)
        self.seconds = seconds
        self.after = after

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        end = time.monotonic() + self.seconds
        while trainer.global_step >= self.after and self.file.exists() and time.monotonic() < end:
            time.sleep(0.02)

    on_predict_batch_start = on_before_optimizer_step


class KillWandb(pl.Callback):
    """Kills W&B's process after the second step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == 2:
            for child in psutil.Process().children(recursive=True):
                if "wandb" in " ".join(child.cmdline()):
                    child.kill()
                    child.wait()


class CrashAt(pl.Callback):
    """Raises an error inside the accumulation window after an optimizer step, or after as many batches of `predict`.

    Args:
        step: the optimizer step.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and batch_idx % trainer.accumulate_grad_batches:
            raise ZeroDivisionError

    def on_predict_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.step:
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


class Fp16OnTheCPU(MixedPrecision):
    """Trains in float16 with a real gradient scaler, as on a GPU. Lightning would replace 16-mixed on the CPU.

    Args:
        scale: of the gradient scaler, at first.
        growth: number of steps after which the scale is doubled.
    """

    def __init__(self, scale: float = 1024.0, growth: int = 2000) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=growth))


class Bfloat16OnTheCPU(MixedPrecision):
    """Trains in bfloat16 on any CPU. Without the hardware for it, the command would use float32."""

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cpu")


class Overflow(pl.Callback):
    """Makes gradients infinite in some optimizer steps.

    Args:
        steps: numbers of the steps, counted from 0, those that are skipped included.
    """

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.attempted_steps in self.steps:
            for parameter in pl_module.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("inf"))


class RunOut(pl.Callback):
    """Needs more memory than any machine has.

    Args:
        on: what runs out: gpu raises the error of CUDA's allocator, cpu asks the CPU's for too much.
        rank: the rank that runs out.
    """

    def __init__(self, on: str, rank: int = 0) -> None:
        self.on = on
        self.rank = rank

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_rank != self.rank:
            return
        if self.on == "gpu":
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of ..."
            )
        torch.empty(10**15, dtype=torch.uint8)

    on_predict_batch_start = on_train_batch_start
