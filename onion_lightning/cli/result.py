"""Completes a run: its W&B run, and what `fit` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onion_lightning.cli.parsing.arguments import predict_command
from onion_lightning.messages import tell
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["finish_wandb", "report_fit"]

VALIDATION = {"val/perplexity": "perplexity", "val/reward_accuracy": "reward accuracy"}


def finish_wandb(trainer: Any) -> None:
    """Complete the W&B run of a Trainer or a session, if there is one."""
    for logger in trainer.loggers:
        if isinstance(logger, CarefulWandbLogger):
            logger.finish()


def report_fit(trainer: Any, folder: Path, saves: bool, minutes: float, args: Sequence[str]) -> None:
    """Print the result, where the checkpoint is, and how to write an article with it.

    Args:
        trainer: after `fit`.
        folder: of the run.
        saves: whether it has checkpoints.
        minutes: that it took.
        args: the command line.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    shown = [f", validation {word} {figures[key]:.2f}" for key, word in VALIDATION.items() if key in figures]
    steps = trainer.lightning_module.skipped_steps
    skipped = f" ({steps} more skipped in fp16)" if steps else ""
    tell(f"\nDone: step {trainer.global_step}{skipped} after {minutes:.1f} minutes{''.join(shown)}.")
    if not saves:
        tell("No checkpoint was written (--trainer.enable_checkpointing false).")
        return
    tell(f"Checkpoint: {last}" + (f" (lowest validation loss: {best})" if best.exists() else ""))
    tell(f"Write an article with it:\n  {predict_command(args, last)}")
