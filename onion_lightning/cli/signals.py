"""Stopping on SIGINT and SIGTERM: at once while loading or writing, after the optimizer's step while training."""

import ctypes
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

import lightning.pytorch as pl
import torch

from onion_lightning.errors import Interrupted

__all__ = ["GracefulStop", "StopSignals", "die_with_parent"]


class StopSignals:
    """The handler of SIGINT and SIGTERM, as a context manager.

    It raises `Interrupted`, or, while `deferred`, keeps the signal in `received`; a second signal then ends the process.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self.before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def install(self) -> None:
        """Take the signals. Lightning takes SIGTERM for itself when a loop starts, so this is called again after it."""
        signal.signal(signal.SIGINT, self.handle)
        signal.signal(signal.SIGTERM, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if not self.deferred:
            raise Interrupted(signum)
        if self.received is not None:
            os._exit(128 + signum)  # the second one: whoever sends it does not want to wait
        self.received = signum


def die_with_parent(yes: bool) -> None:
    """Have the kernel end this process when its parent ends (Linux): a rank that Lightning started would wait for rank 0
    in a collective, with NCCL for many minutes."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL if yes else 0)


class GracefulStop(pl.Callback):
    """Ends `fit` on every rank at the same optimizer step once any rank has had a signal; other commands at once.

    Lightning's own handling leaves with status 0 when rank 0 is told and hangs when another one is.
    """

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install()
        self.signals.deferred = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.deferred = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:  # the optimizer has stepped, and the step is logged
            self.stop_if_any_rank_was_told(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.signals.deferred:
            self.stop_if_any_rank_was_told(trainer)
        else:
            self.signals.install()

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if self.signals.deferred:  # inside fit; every rank has equally many batches
            self.stop_if_any_rank_was_told(trainer)

    def stop_if_any_rank_was_told(self, trainer: pl.Trainer) -> None:
        told = torch.tensor(float(self.signals.received or 0), device=trainer.strategy.root_device)
        signum = int(trainer.strategy.reduce(told, reduce_op="max"))
        if signum:
            self.signals.deferred = False
            raise Interrupted(signum)

    def reinstall(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install()

    on_predict_start = on_test_start = on_sanity_check_start = reinstall
