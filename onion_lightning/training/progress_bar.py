"""The progress bar of `fit`."""

from datetime import timedelta
from typing import Any, ClassVar

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
from rich.console import Console
from rich.progress import ProgressColumn, Task, TextColumn
from rich.text import Text

__all__ = ["Progress"]


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
        spent = f"{timedelta(seconds=int(elapsed))}"
        if task.completed == done or task.total is None:
            return Text(spent, style="dim")
        left = (task.total - task.completed) * (elapsed - then) / (task.completed - done)
        remaining = f"{timedelta(seconds=int(left))} remaining"
        return Text(remaining if self.brief else f"{spent}, {remaining}", style="dim")


class Progress(RichProgressBar):
    """Lightning's bar on one line: batches done, time remaining in the epoch, loss and tokens/s.

    On a terminal of 80 columns the bar itself is omitted.
    """

    WIDE = 100  # columns

    NAMES: ClassVar[dict[str, tuple[str, str]]] = {
        "train/loss": ("loss", ".3f"),
        "tokens/s": ("tokens/s", ".0f"),
        "val/perplexity": ("val ppl", ".2f"),
    }

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        narrow = Console().width < self.WIDE
        bar = [] if narrow else [CustomBarColumn(bar_width=20)]
        return [TextColumn("{task.description}"), *bar, BatchesProcessedColumn(""), TimeRemaining(narrow)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        figures = trainer.progress_bar_metrics
        return {name: format(figures[key], spec) for key, (name, spec) in self.NAMES.items() if key in figures}
