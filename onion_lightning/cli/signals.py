"""Handles SIGINT, SIGTERM and those of SLURM: at once while loading or writing, after the optimizer step while training."""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from onion_lightning.errors import Interrupted
from onion_lightning.model.optimization.optimizer_step import HostCopy
from onion_lightning.private_api import forget_sigterm_broadcast
from onion_lightning.training.job.slurm import SIGNALS, job_id

__all__ = ["GracefulStop", "StopSignals"]

REPEATED = 0.5  # seconds: a signal that torchrun passes on arrives sooner


class StopSignals:
    """Handles SIGINT and SIGTERM, and under SLURM SIGUSR1 and SIGUSR2, as a context manager.

    The handler raises `Interrupted`. While `deferred` is set it stores the signal in `received` instead, and another SIGINT
    ends the process. Other signals that follow do not: SLURM sends SIGTERM to a job that it has warned with SIGUSR1, and
    launchers pass on a signal that the rank has received itself.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.received_at = 0.0  # seconds
        self.deferred = False
        self.training_began = False
        self.before: dict[int, Any] = {}

    @property
    def signals(self) -> tuple[int, ...]:
        return (signal.SIGINT, signal.SIGTERM, *(SIGNALS if job_id() else ()))

    def __enter__(self) -> "StopSignals":
        self.before = {signum: signal.getsignal(signum) for signum in self.signals}
        self.install()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def install(self) -> None:
        """Install the handler. Lightning installs one for SIGTERM when a loop starts, so this is repeated after it."""
        for signum in self.before:
            signal.signal(signum, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if not self.deferred:
            raise Interrupted(signum)
        if self.received is not None:
            if signum == signal.SIGINT and time.monotonic() - self.received_at > REPEATED:
                os._exit(128 + signum)  # the user does not want to wait
            return
        self.received, self.received_at = signum, time.monotonic()


class GracefulStop(pl.Callback):
    """Stops `fit` on all ranks after the same optimizer step once any rank has received a signal.

    Other commands stop at once. Lightning's own handling exits with status 0 when rank 0 receives the signal, and hangs when
    another rank does.

    Args:
        signals: the signal handler that is installed.
        resumable: whether the run writes checkpoints that it can resume from.
    """

    def __init__(self, signals: StopSignals, resumable: bool = True) -> None:
        self.signals = signals
        self.resumable = resumable
        self.shared: HostCopy | None = None  # the highest number of a signal on any rank, as of the last optimizer step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install()
        self.signals.deferred = True
        self.signals.training_began = self.resumable
        forget_sigterm_broadcast(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.deferred = False

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Share the signals of all ranks, with the optimizer step: no rank waits for this until the next step begins."""
        if trainer.world_size > 1:
            received = torch.full((1,), float(self.signals.received or 0), device=trainer.strategy.root_device)
            dist.all_reduce(received, op=dist.ReduceOp.MAX)
            self.shared = HostCopy(received)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:  # otherwise the optimizer has stepped, and the step is logged
            return
        if trainer.world_size == 1:
            self.stop(self.signals.received)
        elif self.shared is not None:
            self.stop(int(self.shared.read()[0]))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.signals.deferred:
            self.stop_if_any_rank_was_signaled(trainer)
        else:
            self.signals.install()

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if self.signals.deferred:  # inside fit, where every rank has the same number of batches
            self.stop_if_any_rank_was_signaled(trainer)

    def stop_if_any_rank_was_signaled(self, trainer: pl.Trainer) -> None:
        received = torch.tensor(float(self.signals.received or 0), device=trainer.strategy.root_device)
        self.stop(int(trainer.strategy.reduce(received, reduce_op="max")))

    def stop(self, signum: int | None) -> None:
        if signum:
            self.signals.deferred = False
            raise Interrupted(signum)

    def reinstall(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install()

    on_predict_start = on_test_start = on_sanity_check_start = reinstall
