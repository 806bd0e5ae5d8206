"""The optimizer steps of an `OnionModule`, their log, and its validation and test, as hooks of Lightning."""

import math
import time
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from onion_lightning.data.collate import Batch
from onion_lightning.model.loss import HeldOutLoss
from onion_lightning.model.optimization.optimizer import OptimizerSettings, adamw_with_cosine, total_steps
from onion_lightning.model.optimization.optimizer_step import (
    HostCopy,
    adapter_gradients,
    check_finite,
    check_not_zero,
    gpu_stats,
    gradient_scaler,
    sum_over_ranks,
)
from onion_lightning.model.sharding.pace import Pace, keeping_pace
from onion_lightning.private_api import uncount_optimizer_step
from onion_lightning.seeding import mix_seed

__all__ = ["TrainingHooks"]


class TrainingHooks(pl.LightningModule):
    """Trains and validates a model whose loss a subclass computes.

    Attributes:
        seed: of dropout.
        pace: of the ranks that share the weights, if they are sharded.
        epoch_began: attempted steps before the current epoch.
        skipped_steps: by the gradient scaler of fp16, in the whole run.
        skipped_in_a_row: the same, since the last step that was taken.
        FIGURES: names of what `shares` computes and each step logs, the loss first.
    """

    FIGURES: ClassVar[tuple[str, ...]] = ("train/loss",)
    seed: int
    pace: Pace | None

    def __init__(self) -> None:
        super().__init__()
        self.epoch_began = 0
        self.skipped_steps = 0
        self.skipped_in_a_row = 0

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum -log p over the supervised tokens of a micro-batch, in nats."""
        raise NotImplementedError

    @property
    def optimization(self) -> OptimizerSettings:
        """The flags of the optimizer."""
        raise NotImplementedError

    @property
    def attempted_steps(self) -> int:
        """Optimizer steps of this run, with those that the gradient scaler of fp16 skipped; `global_step` is without."""
        return self.trainer.global_step + self.skipped_steps

    def on_train_epoch_start(self) -> None:
        self.epoch_began = self.attempted_steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Checkpoints contain no random state: a seed from the position in the run makes a resumed run repeat its dropout.
        torch.manual_seed(mix_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.step_shares = torch.zeros(len(self.FIGURES), device=self.device)
            self.step_started = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return this micro-batch's share of the loss of the global batch."""
        shares = self.shares(batch)
        self.step_shares += shares.detach()
        # Lightning divides by the accumulation and DDP by the number of ranks: undo both (transformers#34191).
        return shares[0] * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def shares(self, batch: Batch) -> torch.Tensor:
        """Return this micro-batch's share of the mean over all supervised tokens of the global batch, (1,)."""
        return (self.loss_sum(batch) / batch["supervised"])[None]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradient_norm = torch.nn.utils.get_total_norm(adapter_gradients(self))
        self.figures = HostCopy(torch.cat([sum_over_ranks(self.step_shares), gradient_norm[None]]))
        if gradient_scaler(self.trainer) is None:
            self.check_step()  # this waits for the device, and is the only such wait of the step

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, and log it; in fp16, the gradient scaler skips it if the gradient is not finite.

        The scaler waits for the device. Its steps are checked afterwards, so that there is no second wait.
        """
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        super().optimizer_step(*args, **kwargs)
        if gradient_scaler(self.trainer) is not None:
            self.check_step()
        *figures, gradient_norm = self.figures.read()
        if not math.isfinite(gradient_norm):
            self.count_skipped_step()
            return
        self.skipped_in_a_row = 0
        self.log_value("learning_rate", rate)
        for name, value in zip(self.FIGURES, figures, strict=True):
            self.log_value(name, value, prog_bar=True)
        self.log_value("train/grad_norm", gradient_norm)
        if self.skipped_steps:
            self.log_value("train/skipped_steps", self.skipped_steps)

    def check_step(self) -> None:
        """Stop a run whose step is not finite or would train nothing."""
        loss, *_, gradient_norm = self.figures.read()
        check_finite(self, loss, gradient_norm)
        check_not_zero(self, gradient_norm)

    def count_skipped_step(self) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        uncount_optimizer_step(self.trainer)

    def log_value(self, name: str, value: float, prog_bar: bool = False) -> None:
        """Log a number that is on the host. Lightning would copy it to the device and back, and wait for both."""
        self.log(name, torch.tensor(value, dtype=torch.float32), prog_bar=prog_bar)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 and self.skipped_in_a_row == 0:
            seconds = time.perf_counter() - self.step_started
            self.log_value("tokens/s", batch["tokens"] / seconds, prog_bar=True)
            for name, value in gpu_stats(self.device).items():
                self.log_value(name, value)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self.named_parameters(), self.optimization, total_steps(self.trainer))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, unless the gradient scaler skipped the optimizer step."""
        if self.skipped_in_a_row == 0:
            scheduler.step()

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self.held_out = HeldOutLoss(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        with keeping_pace(self.pace):
            if batch["row_lengths"]:
                self.held_out.update(self.loss_sum(batch), len(batch["targets"]))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        for name, value in self.held_out.compute(self.trainer.strategy).items():
            self.log(f"val/{name}", value, prog_bar=True)

    def on_test_epoch_end(self) -> None:
        for name, value in self.held_out.compute(self.trainer.strategy).items():
            self.log(f"test/{name}", value)
