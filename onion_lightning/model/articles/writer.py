"""Writes predicted articles to a JSON Lines file, independently of the number of ranks, and resumes interrupted runs."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter

from onion_lightning.errors import OnionError
from onion_lightning.model.articles.panel import show_articles
from onion_lightning.model.articles.record import ArticleBatch, ArticleRecord
from onion_lightning.output_folder import writing
from onion_lightning.pretrained.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS

__all__ = ["ArticleWriter"]

KEPT = "what was written is kept; free disk space or make it writable, then add --articles.resume true"


class ArticleWriter(BasePredictionWriter):
    """Writes generated articles to a JSON Lines file, in the order of the headlines.

    Each rank appends its batches to a part file next to the target, one line per batch. At the end, rank 0 merges the
    part files and replaces the target atomically.

    Args:
        path: output file, in JSON Lines format.
        resume: resume an interrupted run with the same headlines and settings; articles already written are kept.
    """

    def __init__(self, path: str = "articles.jsonl", resume: bool = False) -> None:
        super().__init__("batch")
        self.path = Path(path).expanduser()
        self.resume = resume
        self.finished = False
        self.checkpoint: str | None = None  # file or folder that the adapters are loaded from; set by the command

    def part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}.part")

    @property
    def parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f".{self.path.name}.*.part"))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        if self.path.is_dir():
            raise OnionError(f"--articles.path {self.path}: is a directory; give the path of a file.")
        self.finished = False
        self.settings = fingerprint(trainer, pl_module, self.checkpoint)
        own = self.part(trainer.global_rank)
        with self.writing("give another path"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = self.restore(trainer, own) if self.resume else []
            trainer.strategy.barrier("part_files_read")  # before any rank writes
            if trainer.is_global_zero and not self.resume:
                for part in self.parts:
                    part.unlink()
            trainer.strategy.barrier("part_files_cleared")
            own.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def writing(self, remedy: str = KEPT) -> contextlib.AbstractContextManager[None]:
        return writing("--articles.path", self.path, remedy)

    def restore(self, trainer: pl.Trainer, own: Path) -> list[str]:
        """Have the data module skip the batches that an interrupted run has written.

        Args:
            trainer: with a data module attached.
            own: this rank's part file.

        Returns:
            The complete lines of this rank's part file.

        Raises:
            OnionError: the interrupted run had other headlines or settings.
        """
        done: set[int] = set()
        for part in self.parts:
            for batch in read_part(part):
                if batch["settings"] != self.settings:
                    raise OnionError(
                        f"--articles.resume true: {part} was written with other headlines or settings; use the same ones, or"
                        " omit the flag to start over."
                    )
                done.add(batch["batch"])
        trainer.datamodule.done_batches = done  # type: ignore[attr-defined]
        return [json.dumps(batch, ensure_ascii=False) for batch in read_part(own)]

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: ArticleBatch, *args: Any, **kwargs: Any
    ) -> None:
        if not prediction.articles:
            return
        articles = [asdict(record) for record in prediction.articles]
        batch = {"batch": prediction.index, "settings": self.settings, "articles": articles}
        with self.writing(), self.part(trainer.global_rank).open("a", encoding="utf-8") as stream:
            write_lines(stream, [batch])

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.strategy.barrier("part_files_written")
        self.finish(trainer)

    def finish(self, trainer: pl.Trainer) -> None:
        """Merge the part files. Also called by the command: Lightning calls no hook if a resumed run has no batch left."""
        if trainer.is_global_zero and not self.finished:
            show_articles(self.merge(), self.path)
        self.finished = True

    def merge(self) -> list[ArticleRecord]:
        """Merge the part files into the articles file, and delete them."""
        parts = self.parts
        found = [ArticleRecord(**record) for part in parts for batch in read_part(part) for record in batch["articles"]]
        records = sorted(found, key=lambda record: (record.index, record.candidate))
        merged = self.path.with_name(f".{self.path.name}.all")
        with self.writing():
            with merged.open("w", encoding="utf-8") as stream:
                write_lines(stream, map(asdict, records))
            merged.replace(self.path)
        for part in parts:
            part.unlink()
        return records


def write_lines(stream: TextIO, values: Iterable[dict[str, Any]]) -> None:
    """Write values as JSON Lines, and flush them to the disk."""
    stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    stream.flush()
    os.fsync(stream.fileno())


def read_part(part: Path) -> Iterator[dict[str, Any]]:
    """Yield the batches of a part file, without an incomplete last line."""
    if part.exists():
        for line in part.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            yield json.loads(line)


def adapter_files(checkpoint: str | None) -> list[Path]:
    """Return the files that the adapters are loaded from: a checkpoint, or those in a folder."""
    if checkpoint is None:
        return []
    path = Path(checkpoint)
    return [path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS] if path.is_dir() else [path]


def fingerprint(trainer: pl.Trainer, module: Any, checkpoint: str | None) -> str:
    """Hash everything that the articles depend on: headlines, batches, decoding, seed and weights."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    weights = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in adapter_files(checkpoint))
    parts = (data.rows, data.predict_batch_size, module.decoding, module.seed, module.adapter_flags(), weights)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
