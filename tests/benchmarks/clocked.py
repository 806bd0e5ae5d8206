"""Trains with this project's module and data module and a Trainer that is configured as in `fit`, and times the steps."""

import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from documented import CPU
from process_memory import peak_so_far, status

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.base_model import best_precision
from onion_lightning.model.module import OnionModule

__all__ = ["Clock", "fit", "long_rows", "write_rows"]


class Clock(pl.Callback):
    """Times optimizer steps, and measures the peak memory (VmHWM) until training starts and from then on.

    Attributes:
        seconds: of each step.
        total: seconds from the first batch to the end of the last step.
        loading: bytes.
        training: bytes.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.first: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.loading = peak_so_far()

    def on_train_batch_start(self, *_: Any) -> None:
        self.began = time.perf_counter()
        self.first = self.first or self.began

    def on_train_batch_end(self, *_: Any) -> None:
        assert self.first is not None
        self.seconds.append(time.perf_counter() - self.began)
        self.total = time.perf_counter() - self.first
        self.training = status("VmHWM")


def fit(module: OnionModule, rows: Sequence[tuple[str, str]], max_length: int, batch_size: int) -> Clock:
    """Train one epoch over headlines and articles, an optimizer step for each `batch_size` of them."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=best_precision(CPU),
        max_epochs=1,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        write_rows(file, rows)
        data = OnionDataModule(
            path=str(file),
            base_model=module.base_model,
            val_fraction=0.0,
            test_fraction=0.0,
            max_length=max_length,
            batch_size=batch_size,
            global_batch_size=batch_size,
            seed=0,
        )
        trainer.fit(module, data)
    assert data.report.kept == len(rows)
    return clock


def write_rows(file: Path, rows: Sequence[tuple[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "article"])
        writer.writerows(rows)


def long_rows(count: int, tokens: int) -> list[tuple[str, str]]:
    """Return different articles of more than this many tokens; the data module cuts them."""
    return [(f"Headline {row}", f"{row} " + "officials said on Tuesday " * tokens) for row in range(count)]
