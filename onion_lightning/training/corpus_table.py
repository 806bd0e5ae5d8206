"""Shows and saves the corpus report when `fit` starts."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["CorpusTable"]


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
