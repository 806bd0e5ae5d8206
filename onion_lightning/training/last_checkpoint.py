"""Keeps `last.ckpt` at the last completed optimizer step."""

from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from onion_lightning.errors import Interrupted, OnionError, check_range
from onion_lightning.model.module import OnionModule
from onion_lightning.private_api import dump_checkpoint, row_to_log, run_validation

__all__ = ["LastCheckpoint"]


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt`, which always contains the last completed optimizer step when `fit` ends.

    It is written only right after an optimizer step: every N steps, before each validation, and at the end.

    Args:
        dirpath: folder of the run, with its checkpoints, metrics.csv, samples.txt, corpus_report.json and config.yaml.
        every_n_train_steps: write last.ckpt every this many optimizer steps.
    """

    def __init__(self, dirpath: str = "checkpoints/run", every_n_train_steps: int = 50) -> None:
        check_range("--checkpoint.every_n_train_steps", every_n_train_steps, every_n_train_steps >= 1, "at least 1")
        check_range("--checkpoint.dirpath", repr(dirpath), bool(dirpath.strip()), "a folder")
        self.folder = Path(dirpath).expanduser()
        self.every = every_n_train_steps
        self.saved_at = -1
        self.enabled = True  # false with --trainer.enable_checkpointing false
        self.validation_due = False
        self.row: dict[str, float] = {}  # metrics of the last step, which Lightning has not passed to the loggers yet

    @property
    def path(self) -> Path:
        return self.folder / "last.ckpt"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = attempted_steps(trainer)
        if self.row:  # the run may have been killed before it was logged; loggers drop duplicates
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in self.row.items() if k != "step"}, int(self.row["step"]))
        if self.validation_due:  # the run was stopped before or during it
            run_validation(trainer)

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.row = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            if trainer.should_stop:  # set by a Timer: the loop ends at once, inside the accumulation window
                self.save(trainer)
            return
        self.row = row_to_log(trainer)
        interval = trainer.val_check_batch if trainer.enable_validation else None
        validates = interval is not None and (batch_idx + 1) % interval == 0
        ends = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        self.validation_due = validates
        if trainer.global_step % self.every == 0 or validates or ends or trainer.should_stop:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation_due = False  # before ModelCheckpoint saves, which is called after this callback

    def state_dict(self) -> dict[str, Any]:
        return {"validation_due": self.validation_due, "row": self.row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validation_due = state_dict["validation_due"]
        self.row = state_dict.get("row", {})

    def save(self, trainer: pl.Trainer) -> None:
        disabled = getattr(trainer, "fast_dev_run", False) or not self.enabled
        if attempted_steps(trainer) != self.saved_at and not disabled:
            trainer.save_checkpoint(self.path)
            self.saved_at = attempted_steps(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if (
            not trainer.training
            or not self.enabled
            or getattr(trainer, "fast_dev_run", False)
            or self.saved_at < 0
            or attempted_steps(trainer) == self.saved_at
        ):
            return
        if isinstance(exception, Interrupted) or not isinstance(exception, OnionError):
            trainer.strategy.save_checkpoint(dump_checkpoint(trainer), self.path)
            self.saved_at = attempted_steps(trainer)


def attempted_steps(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps, with those that the gradient scaler skipped: they change the scale."""
    return cast(OnionModule, trainer.lightning_module).attempted_steps
