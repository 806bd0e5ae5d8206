"""Logs the progress of `fit` as plain lines, for a log file: nohup, SLURM or a pipe."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch

from onion_lightning.heartbeat import MINUTE, Heartbeat
from onion_lightning.training.progress.position import Position, Remaining

__all__ = ["FitLines"]

STEP = {
    "train/loss": "loss {:.3f}",
    "train/reward_accuracy": "reward accuracy {:.2f}",
    "train/reward_margin": "margin {:.3f}",
    "learning_rate": "learning rate {:.2e}",
}
VALIDATION = {
    "val/loss": "loss {:.4f}",
    "val/perplexity": "perplexity {:.2f}",
    "val/reward_accuracy": "reward accuracy {:.2f}",
    "val/reward_margin": "margin {:.3f}",
    "val/kl": "KL to the reference {:.4f} nats a token",
}


class FitLines(pl.Callback):
    """Logs a line every `--trainer.log_every_n_steps` optimizer steps, and at least every minute.

    Validations, checkpoints and samples have lines of their own.

    Args:
        clock: returns the time in seconds.
    """

    position: Position
    remaining: Remaining

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.heart = Heartbeat(self.line, MINUTE, clock)
        self.started = False
        self.activity = ""  # what is done now, unless it is the step itself
        self.figures: list[str] = []  # loss and learning rate of the last step
        self.memory = ""
        self.work = (0, 0.0)  # tokens and seconds of the steps since the last line; replaced as a whole, for the thread
        self.line_at = self.last_at = 0  # optimizer steps at the last line, and at the last line about last.ckpt

    def line(self) -> str:
        """Return the current line."""
        tokens, seconds = self.work
        speed = f"{tokens / seconds:.0f} tokens/s" if tokens and seconds else ""
        remaining = self.remaining.describe(self.position.step)
        parts = (self.activity, *self.figures, speed, self.memory, remaining)
        return ", ".join([str(self.position), *filter(None, parts)])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.position = Position(trainer)
        self.remaining = Remaining(self.position.step, self.position.steps, self.clock)
        self.line_at = self.last_at = self.position.step
        self.every = cast(Any, trainer).log_every_n_steps or math.inf  # 0 turns logging off
        self.started = True
        self.heart.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.activity = ""
        self.batch_began = self.clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        tokens, seconds = self.work
        seconds += self.clock() - self.batch_began
        self.work = (tokens, seconds)
        accumulate = trainer.accumulate_grad_batches
        if within := (batch_idx + 1) % accumulate:
            self.activity = f"{within} of {accumulate} micro-batches of the next step"
            self.heart.beat()
            return
        self.activity = ""
        self.work = (tokens + batch["tokens"], seconds)  # the tokens are those of the global batch
        self.figures = describe(trainer, STEP)
        self.memory = describe_memory(trainer.strategy.root_device)
        if self.position.step - self.line_at >= self.every or self.heart.is_due():
            self.heart.say(self.line())
            self.line_at = self.position.step
            self.work = (0, 0.0)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.activity = f"validation batch {batch_idx + 1} of {int(sum(trainer.num_val_batches))}"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.activity = "after validation"
        if self.started and (found := describe(trainer, VALIDATION)):
            self.note(f"validation {', '.join(found)}")

    def wrote_samples(self, count: int, path: Path) -> None:
        """Log a line about samples that were appended to a file."""
        self.note(f"{count} sample{'s' if count != 1 else ''} written to {path}")

    def wrote_checkpoint(self, path: Path) -> None:
        """Log a line about a checkpoint; about last.ckpt as often as about the steps, because it may be written at each."""
        if not self.started:
            return
        step = self.position.step
        if path.name == "last.ckpt":
            if step - self.last_at < min(self.every, self.position.steps - self.last_at):
                return
            self.last_at = step
        self.note(f"checkpoint written to {path}")

    def note(self, text: str) -> None:
        """Log a line about something that was done at the current step."""
        self.heart.say(f"step {self.position.step} of {self.position.steps}: {text}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.heart.stop()

    def on_exception(self, *args: Any) -> None:
        self.heart.stop()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        self.heart.stop()


def describe(trainer: pl.Trainer, words: Mapping[str, str]) -> list[str]:
    """Return metrics in words. They are on the host: see `TrainingHooks.log_value` and `HeldOutLoss.compute`."""
    metrics = trainer.callback_metrics
    return [text.format(float(metrics[name])) for name, text in words.items() if name in metrics]


def describe_memory(device: torch.device) -> str:
    """Return the peak of reserved GPU memory in words, from counters on the host; nothing on the CPU."""
    return f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
