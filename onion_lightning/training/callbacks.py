"""What happens around training: the run's folder, checkpoints, the corpus table, samples, the progress bar."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    BatchesProcessedColumn,
    CustomBarColumn,
)
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich import box
from rich.console import Console
from rich.progress import ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from onion_lightning.errors import Interrupted, OnionError
from onion_lightning.training.checkpoint_io import move_aside

__all__ = ["CorpusTable", "LastCheckpoint", "Progress", "RunFolder", "Samples"]


class RunFolder(pl.Callback):
    """Makes the run's folder, and moves an earlier run's files aside unless this run goes on with them."""

    def __init__(self, folder: Path, resumes: bool) -> None:
        self.folder = folder
        self.resumes = resumes

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or getattr(trainer, "fast_dev_run", False) or not trainer.is_global_zero:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            moved = None if self.resumes else move_aside(self.folder)
        except OSError as error:
            raise OnionError(
                f"--checkpoint.dirpath {self.folder}: cannot be written ({error.strerror}); give another folder."
            ) from error
        if not os.access(self.folder, os.W_OK):
            raise OnionError(f"--checkpoint.dirpath {self.folder}: cannot be written; give another folder.")
        if moved:
            Console(stderr=True).print(
                f"An earlier run's files went to {moved} (--ckpt_path last would have gone on with it).", soft_wrap=True
            )


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


class CorpusTable(pl.Callback):
    """Shows what was read, dropped and kept; writes it to `corpus_report.json` and to W&B."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        report = trainer.datamodule.report  # type: ignore[attr-defined]
        console = Console(stderr=True)
        console.print(corpus_table(report))
        console.print(describe_tokens(report["tokens"]), highlight=False)
        if getattr(trainer, "fast_dev_run", False):
            return
        text = json.dumps(report, indent=2, ensure_ascii=False)
        (self.folder / "corpus_report.json").write_text(text + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("corpus", columns=["what", "rows"], data=list_counts(report))


def list_counts(report: dict[str, Any]) -> list[list[Any]]:
    """The report's counts, those that are not 0."""
    rows = [["read", report["read"]]]
    rows += [[f"dropped: {reason}", count] for reason, count in report["dropped"].items() if count]
    rows += [["kept", report["kept"]]]
    rows += [[f"cleaned: {change}", count] for change, count in report["cleaned"].items() if count]
    rows += [["cut at max_length", report["cut"]]] if report["cut"] else []
    rows += [[split, count] for split, count in report["splits"].items()]
    return rows


def corpus_table(report: dict[str, Any]) -> Table:
    """The report as a table for the terminal."""
    table = Table("corpus", "rows", box=box.SIMPLE_HEAD)
    table.columns[1].justify = "right"
    for what, count in list_counts(report):
        strong = what in ("read", "kept")
        table.add_row(
            Text(what if strong else f"  {what}".replace("_", " ")), f"{count:,}", style="bold" if strong else ""
        )
    return table


def describe_tokens(tokens: dict[str, float]) -> str:
    return f"  tokens of a row: median {tokens['median']}, 95% up to {tokens['p95']}, longest {tokens['max']}\n"


class Samples(pl.Callback):
    """Continues a few held-out headlines after every validation, into `samples.txt` and a W&B table.

    Args:
        count: how many headlines; 0 for none.
        max_new_tokens: most tokens of a sample.
        dirpath: set from --checkpoint.dirpath.
    """

    def __init__(self, count: int = 4, max_new_tokens: int = 200, dirpath: str = "checkpoints/run") -> None:
        self.count = count
        self.max_new_tokens = max_new_tokens
        self.path = Path(dirpath).expanduser() / "samples.txt"

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (
            trainer.sanity_checking
            or getattr(trainer, "fast_dev_run", False)
            or self.count == 0
            or trainer.state.fn != "fit"
        ):
            return
        module: Any = pl_module
        headlines = trainer.datamodule.texts["validation"][: self.count]["headline"]  # type: ignore[attr-defined]
        written = module.write(headlines, seed=module.seed, max_new_tokens=self.max_new_tokens)
        pairs = [(headline, candidates[0].text) for headline, candidates in zip(headlines, written, strict=True)]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"=== step {trainer.global_step}\n\n")
            stream.writelines(f"{headline}\n{article}\n\n" for headline, article in pairs)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = [[trainer.global_step, *pair] for pair in pairs]
                logger.log_table("samples", columns=["step", "headline", "article"], data=rows)


class TimeToGo(ProgressColumn):
    """Time spent and time to go. Rich's own needs several updates within 30 seconds, and a step may take as long.

    Args:
        brief: leave out the time spent once the time to go is known.
    """

    def __init__(self, brief: bool) -> None:
        super().__init__()
        self.brief = brief
        self.began: dict[int, tuple[float, float]] = {}  # by task: what was done, and when, at first sight

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        done, then = self.began.setdefault(task.id, (task.completed, elapsed))
        spent = f"{timedelta(seconds=int(elapsed))}"
        if task.completed == done or task.total is None:
            return Text(spent, style="dim")
        left = (task.total - task.completed) * (elapsed - then) / (task.completed - done)
        to_go = f"{timedelta(seconds=int(left))} to go"
        return Text(to_go if self.brief else f"{spent}, {to_go}", style="dim")


class Progress(RichProgressBar):
    """Lightning's bar, in one calm line: what is done, the time to go in the epoch, loss and tokens/s.

    A terminal of 80 columns has no room for the bar itself.
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
        return [TextColumn("{task.description}"), *bar, BatchesProcessedColumn(""), TimeToGo(narrow)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        figures = trainer.progress_bar_metrics
        return {name: format(figures[key], spec) for key, (name, spec) in self.NAMES.items() if key in figures}
