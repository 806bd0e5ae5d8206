"""Prints and saves the corpus report when `fit` starts."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich import box
from rich.table import Table
from rich.text import Text

from onion_lightning.data.encoding import CorpusReport, TokenCounts
from onion_lightning.messages import stderr_console
from onion_lightning.output_folder import writing_run

__all__ = ["CorpusTable"]


class CorpusTable(pl.Callback):
    """Prints how many rows were read, dropped, kept and cleaned, and saves the counts to `corpus_report.json` and W&B.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        report: CorpusReport = trainer.datamodule.report  # type: ignore[attr-defined]
        console = stderr_console()
        console.print(corpus_table(report))
        console.print(describe_tokens(report.tokens), highlight=False)
        if getattr(trainer, "fast_dev_run", False):
            return
        path = self.folder / "corpus_report.json"
        with writing_run(path):
            path.write_text(report.to_json() + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("corpus", columns=["category", "rows"], data=list_counts(report))


def list_counts(report: CorpusReport) -> list[list[str | int]]:
    """Return the report's counts as table rows; categories without rows are omitted, except for splits."""
    rows: list[list[str | int]] = [["read", report.read]]
    rows += [[f"from {path}", counts["read"]] for path, counts in report.sources.items()]
    rows += [[f"dropped: {reason}", count] for reason, count in report.dropped.items() if count]
    rows += [["kept", report.kept]]
    rows += [[f"kept from {path}", counts["kept"]] for path, counts in report.sources.items()]
    rows += [[f"cleaned: {change}", count] for change, count in report.cleaned.items() if count]
    rows += [[f"UTF-8 that was read as {encoding}", count] for encoding, count in report.misread.items()]
    rows += [["cut to max_length", report.cut]] if report.cut else []
    rows += [[split, count] for split, count in report.splits.items()]
    return rows


def corpus_table(report: CorpusReport) -> Table:
    """Return the report as a table for the terminal."""
    table = Table("corpus", "rows", box=box.SIMPLE_HEAD)
    table.columns[1].justify = "right"
    for category, count in list_counts(report):
        total = category in ("read", "kept")
        label = category if " from " in f" {category}" else str(category).replace("_", " ")  # names of sources stay
        table.add_row(Text(f"{'' if total else '  '}{label}"), f"{count:,}", style="bold" if total else "")
    return table


def describe_tokens(tokens: TokenCounts) -> str:
    return f"  tokens per row: median {tokens.median}, 95th percentile {tokens.p95}, maximum {tokens.max}\n"
