"""Shows progress as a bar in a terminal, on standard error."""

from typing import Any, ClassVar

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn
from rich import reconfigure
from rich.progress import ProgressColumn, Task, TextColumn
from rich.text import Text

from onion_lightning.heartbeat import format_seconds
from onion_lightning.messages import stderr_console
from onion_lightning.training.progress.position import Position

__all__ = ["ProgressBar"]


class TimeRemaining(ProgressColumn):
    """Elapsed and remaining time. Rich's own column needs several updates within 30 seconds; one step may take longer.

    Args:
        brief: omit the elapsed time once the remaining time is known.
    """

    def __init__(self, brief: bool) -> None:
        super().__init__()
        self.brief = brief
        self.began: dict[int, tuple[float, float]] = {}  # per task, at its first update: steps completed, and when

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        done, then = self.began.setdefault(task.id, (task.completed, elapsed))
        spent = format_seconds(elapsed)
        if task.completed == done or task.total is None:
            return Text(spent, style="dim")
        left = (task.total - task.completed) * (elapsed - then) / (task.completed - done)
        remaining = f"{format_seconds(left)} remaining"
        return Text(remaining if self.brief else f"{spent}, {remaining}", style="dim")


class Count(ProgressColumn):
    """How much is done: optimizer steps of the whole run in training, batches otherwise."""

    def render(self, task: Task) -> Text:
        unit, total = task.fields.get("unit", "batch"), str(int(task.total or 0))
        return Text(f"{unit} {int(task.completed):>{len(total)}} of {total}")


class ProgressBar(RichProgressBar):
    """Lightning's bar on one line: epoch, optimizer steps of the whole run, time remaining, loss and tokens/s.

    On a terminal of 80 columns the bar itself, the accuracy of rewards and the validation perplexity are omitted.
    """

    WIDE = 120  # columns

    NAMES: ClassVar[dict[str, tuple[str, str]]] = {
        "train/loss": ("loss", ".3f"),
        "tokens/s": ("tokens/s", ".0f"),
        "train/reward_accuracy": ("accuracy", ".2f"),
        "val/perplexity": ("val ppl", ".2f"),
    }

    ALWAYS = ("train/loss", "tokens/s")

    position: Position
    narrow = False

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, console_kwargs={"file": stderr_console().file})

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        self.narrow = stderr_console().width < self.WIDE
        bar = [] if self.narrow else [CustomBarColumn(bar_width=20)]
        return [TextColumn("{task.description}"), *bar, Count(), TimeRemaining(self.narrow)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        figures = trainer.progress_bar_metrics
        shown = {
            key: self.NAMES[key]
            for key in self.NAMES
            if key in figures and not (self.narrow and key not in self.ALWAYS)
        }
        return {name: format(figures[key], spec) for key, (name, spec) in shown.items()}

    # fit: one bar for the whole run

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.position = Position(trainer)
        if self.progress is not None and self.train_progress_bar_id is None:
            self.train_progress_bar_id = self.progress.add_task(
                self.epoch, total=self.position.steps, completed=self.position.step, unit="step"
            )

    @property
    def epoch(self) -> str:
        return f"Epoch {self.position.epoch} of {self.position.epochs}"

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing: Lightning's own would start the bar again."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, completed=self.position.step, description=self.epoch)
        self._update_metrics(trainer, pl_module)
        self.refresh()

    # Other commands: the bar ends before results are printed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn != "fit":
            self.finish()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_test_end(trainer, pl_module)
        self.finish()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_predict_end(trainer, pl_module)
        self.finish()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        reconfigure()

    def finish(self) -> None:
        self._stop_progress()
        reconfigure()  # Lightning prints results to rich's global console, which is on standard output
