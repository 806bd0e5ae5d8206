"""Logs metrics to a CSV file that a resumed run appends to."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from onion_lightning.output_folder import writing_run

__all__ = ["MetricsCSV"]


class MetricsCSV(Logger):
    """Appends each row of metrics to `metrics.csv`. Lightning's CSVLogger would delete an earlier run's file.

    Args:
        folder: folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.fields: list[str] = []
        self.started = False

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is saved to config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with writing_run(self.path):
            self.append(int(step or 0), metrics)

    def append(self, step: int, metrics: dict[str, float]) -> None:
        if not self.started and self.resume_from(step, metrics):
            return
        row = {"step": step, **metrics}
        if not set(row) <= set(self.fields):
            self.fields = [*self.fields, *(name for name in row if name not in self.fields)]
            self.rewrite(self.read())
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self.fields).writerow(row)

    def resume_from(self, step: int, metrics: dict[str, float]) -> bool:
        """Drop the rows that a resumed run will log again.

        Args:
            step: the first step that it logs.
            metrics: its first metrics; only rows of these metrics are dropped at that step.

        Returns:
            Whether the file already contains the first row, perhaps with more columns.
        """
        self.started = True
        rows = self.read()
        at_step = [row for row in rows if int(row["step"]) == step]
        same = [row for row in at_step if contains(row, metrics)]
        kept = [row for row in rows if int(row["step"]) < step]
        kept += [row for row in at_step if row in same or not has_any(row, metrics)]
        self.fields = list(rows[0]) if rows else []
        if len(kept) < len(rows):
            self.rewrite(kept)
        return bool(same)

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Rewrite the file atomically, with new columns or fewer rows."""
        self.fields = list(dict.fromkeys([*(rows[0] if rows else []), *self.fields]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.fields)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)


def has_any(row: dict[str, Any], metrics: dict[str, float]) -> bool:
    return any(row.get(name) for name in metrics if name != "epoch")


def contains(row: dict[str, Any], metrics: dict[str, float]) -> bool:
    return all(row.get(name) and float(row[name]) == value for name, value in metrics.items())
