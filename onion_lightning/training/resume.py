"""Saves the position in the epoch, and resumes a run from exactly there."""

import uuid
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimization.optimizer import total_steps
from onion_lightning.training.job.slurm import job_id

__all__ = ["ExactResume"]


class ExactResume(pl.Callback):
    """Resumes a run at the optimizer step after the saved one, with the same rows in the same order.

    Lightning counts micro-batches; a position is saved as a number of optimizer steps, so that a run may resume on another
    number of devices. Values that are given now, such as the learning rate, replace the saved ones.
    """

    def __init__(self) -> None:
        self.restarted: int | None = None  # the epoch that restarts with new rows
        self.run = uuid.uuid4().hex  # the run's identity, also after it was resumed

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        module, data = cast(OnionModule, pl_module), cast(Any, trainer).datamodule
        step = module.attempted_steps - module.epoch_began
        rewind_progress(checkpoint["loops"], step, trainer.accumulate_grad_batches)
        wandb_id = next((lg.version for lg in trainer.loggers if isinstance(lg, WandbLogger)), None)
        checkpoint[CHECKPOINT_KEY] = {
            "flags": {f"data.{name}": value for name, value in data.flags().items()},
            "position": {"epoch": module.current_epoch, "step": step, "skipped_steps": module.skipped_steps},
            "rows": data.fingerprint,
            "run": {"id": self.run, "job": job_id()},
            "wandb_id": None if wandb_id is None else str(wandb_id),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the loops, the optimizer and the data to the saved position.

        Raises:
            OnionError: the checkpoint has no position.
        """
        module, saved, data = cast(OnionModule, pl_module), checkpoint[CHECKPOINT_KEY], cast(Any, trainer).datamodule
        if "position" not in saved:
            raise OnionError(
                "--ckpt_path: has adapters but no position in a run, so training cannot resume from it; give a checkpoint"
                " that fit wrote."
            )
        self.run = saved.get("run", {}).get("id") or self.run
        epoch, step = saved["position"]["epoch"], saved["position"]["step"]
        if saved["rows"] != data.fingerprint and step > 0:
            pl.utilities.rank_zero_warn(
                f"--ckpt_path: was saved at step {step} of epoch {epoch}, but the training rows, the seed or"
                " --data.global_batch_size have changed since; that epoch restarts with the new rows."
            )
            step, self.restarted = 0, epoch
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] = (
                checkpoint["global_step"] - 1
            )
        ended = rewind_progress(checkpoint["loops"], step, trainer.accumulate_grad_batches)
        if ended:
            epoch, step = epoch + 1, 0
            if epoch != trainer.max_epochs:  # otherwise at most a validation remains
                begin_next_epoch(checkpoint["loops"], epoch)
        module.skipped_steps = saved["position"].get("skipped_steps", 0)
        module.epoch_began = checkpoint["global_step"] + module.skipped_steps - step
        replace_hyperparameters(module, checkpoint)
        data.resume(epoch, step)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the schedule to the start of an epoch that restarts, so that it ends at 0 with the run."""
        steps, epochs = total_steps(trainer), trainer.max_epochs or 0
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        if self.restarted is not None and steps == epochs * per_epoch:  # otherwise the run ends at --trainer.max_steps
            set_schedule(trainer, self.restarted * per_epoch)


def set_schedule(trainer: pl.Trainer, step: int) -> None:
    """Set the learning rate and its schedule to an optimizer step."""
    schedule: Any = trainer.lr_scheduler_configs[0].scheduler
    schedule.last_epoch = step
    rates = [rate * factor(step) for rate, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(trainer.optimizers[0].param_groups, rates, strict=True):
        group["lr"] = rate


def replace_hyperparameters(module: OnionModule, checkpoint: dict[str, Any]) -> None:
    """Put the module's learning rates and weight decay in place of the saved ones.

    Raises:
        OnionError: the saved optimizer is another, or has another number of parameter groups.
    """
    saved, rates = checkpoint[CHECKPOINT_KEY].get("training", {}), module.optimization.learning_rates
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    for name, value, fits in (
        ("optimizer", saved.get("model.optimizer", "adamw"), same_state(saved, module)),
        ("lora_plus_ratio", saved.get("model.lora_plus_ratio", 1.0), len(groups) == len(rates)),
    ):
        if not fits:
            raise OnionError(
                f"--model.{name} {getattr(module, name)}: the checkpoint has the optimizer state of --model.{name} {value};"
                " give that value, or start a new run from these adapters with --model.adapter and an export of them."
            )
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] *= rate / group["initial_lr"]
        group |= {"initial_lr": rate, "weight_decay": module.weight_decay}
    checkpoint["lr_schedulers"][0]["base_lrs"] = rates


def same_state(saved: dict[str, Any], module: OnionModule) -> bool:
    """Whether an optimizer continues from the state of the saved one: a paged one does from the same without pages."""
    one, other = saved.get("model.optimizer", "adamw"), module.optimizer
    return one == other or {one, other} == {"adamw_8bit", "paged_adamw_8bit"}


def rewind_progress(loops: dict[str, Any], step: int, accumulate: int) -> bool:
    """Set the loops' count of micro-batches to the position after `step` optimizer steps of the epoch.

    Lightning's own count is wrong if it was saved inside an accumulation window, or if the run resumes with another
    accumulation. It also adds the last batch itself if that was saved before the loop counted it as completed; this
    difference is kept.

    Args:
        loops: the checkpoint's `loops`, changed in place.
        step: optimizer steps completed in the current epoch.
        accumulate: micro-batches per optimizer step.

    Returns:
        Whether the epoch has ended at that position.
    """
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    current, total = progress["current"], progress["total"]
    whole = current["ready"] == current["processed"]
    uncounted = current["processed"] - current["completed"] if whole and step > 0 else 0
    progress["is_last_batch"] = progress["is_last_batch"] and whole and step > 0
    done = step * accumulate
    for counts, base in ((total, total["ready"] - current["ready"]), (current, 0)):
        counts |= dict.fromkeys(("ready", "started", "processed"), base + done)
        counts["completed"] = max(base + done - uncounted, 0)
    return bool(progress["is_last_batch"])


def begin_next_epoch(loops: dict[str, Any], epoch: int) -> None:
    """Set loops that were saved at the end of an epoch to the start of the next one.

    Lightning would enter it without counting it, and a second resume during it would then restart it.

    Args:
        loops: the checkpoint's `loops`, changed in place.
        epoch: the epoch that starts.
    """
    epochs, batches = loops["fit_loop"]["epoch_progress"], loops["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (epochs["total"], epochs["current"]):
        counts |= {"ready": epoch + 1, "started": epoch, "processed": epoch, "completed": epoch}
    batches["total"]["completed"] = batches["total"]["ready"]
    batches["current"] |= dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
