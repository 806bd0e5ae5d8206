"""Keeps `last.ckpt` at the last completed optimizer step."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from onion_lightning.errors import Interrupted, OnionError

__all__ = ["LastCheckpoint"]


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: always the last completed optimizer step when `fit` ends, however it ends.

    Written only where the optimizer has just stepped: every so many steps, before a validation, and at the end.

    Args:
        dirpath: the run's folder: checkpoints, metrics.csv, samples.txt, corpus_report.json and config.yaml.
        every_n_train_steps: optimizer steps between two writings of last.ckpt.
    """

    def __init__(self, dirpath: str = "checkpoints/run", every_n_train_steps: int = 50) -> None:
        if every_n_train_steps < 1:
            raise OnionError(f"--checkpoint.every_n_train_steps {every_n_train_steps}: must be at least 1.")
        self.folder = Path(dirpath).expanduser()
        self.every = every_n_train_steps
        self.saved_at = -1
        self.validation_due = False
        self.row: dict[str, float] = {}  # of the step just done, before Lightning hands it to the loggers

    @property
    def path(self) -> Path:
        return self.folder / "last.ckpt"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = trainer.global_step
        accumulate = trainer.accumulate_grad_batches
        for flag, batches in (
            ("limit_train_batches", trainer.num_training_batches),
            ("val_check_interval", trainer.val_check_batch),
        ):
            if (
                batches
                and batches != float("inf")
                and batches % accumulate
                and not getattr(trainer, "fast_dev_run", False)
            ):
                raise OnionError(
                    f"--trainer.{flag} {getattr(trainer, flag)}: comes to {batches} micro-batches, and an optimizer step has"
                    f" {accumulate}; give a multiple of {accumulate}."
                )
        if self.row:  # the run may have been killed before it was logged; the loggers drop what comes twice
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in self.row.items() if k != "step"}, int(self.row["step"]))
        if self.validation_due:  # the run was stopped before or inside it, and Lightning would pass over it
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.restarting = False
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.row = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            if trainer.should_stop:  # a Timer's: the loop is left at once, inside the window
                self.save(trainer)
            return
        self.row = row_to_log(trainer)
        interval = trainer.val_check_batch
        validates = interval is not None and (batch_idx + 1) % interval == 0
        ends = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        self.validation_due = validates
        if trainer.global_step % self.every == 0 or validates or ends or trainer.should_stop:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation_due = False  # before ModelCheckpoint saves: it comes after this one

    def state_dict(self) -> dict[str, Any]:
        return {"validation_due": self.validation_due, "row": self.row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validation_due = state_dict["validation_due"]
        self.row = state_dict.get("row", {})

    def save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step != self.saved_at and not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(self.path)
            self.saved_at = trainer.global_step

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if (
            not trainer.training
            or getattr(trainer, "fast_dev_run", False)
            or self.saved_at < 0
            or trainer.global_step == self.saved_at
        ):
            return
        if isinstance(exception, Interrupted) or not isinstance(exception, OnionError):
            # without the barrier of trainer.save_checkpoint: the other ranks may be gone
            checkpoint = trainer._checkpoint_connector.dump_checkpoint()
            trainer.strategy.save_checkpoint(checkpoint, self.path)


def row_to_log(trainer: pl.Trainer) -> dict[str, float]:
    """What Lightning is about to log of an optimizer step; empty where it logs nothing."""
    connector = trainer._logger_connector
    if not connector.should_update_logs:
        return {}
    figures = {name: float(value) for name, value in connector.metrics["log"].items()}
    return figures | {"epoch": trainer.current_epoch, "step": trainer.fit_loop.epoch_loop._batches_that_stepped}
