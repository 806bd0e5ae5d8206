"""Writes predicted articles to a file, independently of the number of ranks, and resumes interrupted runs."""

import contextlib
import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter

from onion_lightning.errors import OnionError, RankError, check_range
from onion_lightning.model.articles.formats import FORMATS
from onion_lightning.model.articles.gathering import gather_batches
from onion_lightning.model.articles.panel import MAX_SHOWN, show_articles
from onion_lightning.model.articles.parts import encode_batch, locate_articles, read_articles, read_batches, whole_bytes
from onion_lightning.model.articles.record import ArticleBatch, ArticleRecord
from onion_lightning.output_folder import writing
from onion_lightning.pretrained.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from onion_lightning.ranks import agree, connected, gather, place, together

__all__ = ["ArticleWriter"]

KEPT = "what was written is kept; free disk space or make it writable, then add --articles.resume true"


class ArticleWriter(BasePredictionWriter):
    """Writes generated articles to a file, in the order of the headlines.

    Each rank appends its batches to a part file next to the target. At the end, rank 0 gets the batches that other machines
    have written to folders of their own, merges them and replaces the target atomically; then the part files are removed.

    Args:
        path: output file, whose suffix is its format: .jsonl, .csv, .md or .txt; with several machines, on that of rank 0.
        resume: resume an interrupted run with the same headlines and settings; articles already written are kept.
        keep_all: with --model.best_of, write all articles that were written, the best one of each headline first.
    """

    def __init__(self, path: str = "articles.jsonl", resume: bool = False, keep_all: bool = False) -> None:
        super().__init__("batch")
        self.path = Path(path).expanduser()
        self.suffix = self.path.suffix.lower()
        accepted = f"a file that ends in {', '.join([*FORMATS][:-1])} or {[*FORMATS][-1]}"
        check_range("--articles.path", path, self.suffix in FORMATS, accepted)
        self.resume = resume
        self.keep_all = keep_all
        self.finished = False
        self.checkpoint: str | None = None  # file or folder that the adapters are loaded from; set by the command

    def part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}.part")

    @property
    def parts(self) -> list[Path]:
        """The part files on this machine, also those of earlier runs with other ranks."""
        return sorted(self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        self.finished = False
        module: Any = pl_module
        if self.keep_all and module.decoding.best_of == 1:
            raise OnionError("--articles.keep_all true: needs --model.best_of 2 or more; give it, or omit the flag.")
        self.kept = module.decoding.written if self.keep_all else module.decoding.candidates
        module.read_copies(trainer.datamodule)  # type: ignore[attr-defined]
        with together():
            settings = settings_of(trainer, module, self.checkpoint) | {"--articles.keep_all": self.keep_all}
        agree({name: str(value) for name, value in settings.items()}, "start the same command on all machines")
        self.settings = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        done: set[int] = set()
        with self.writing_together("give another path"):
            if self.path.is_dir():
                raise OnionError(f"--articles.path {self.path}: is a directory; give the path of a file.")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if trainer.local_rank == 0:
                done = self.written_batches() if self.resume else self.remove_parts()
        trainer.datamodule.done_batches = set().union(*gather(done))  # type: ignore[attr-defined]
        own = self.part(trainer.global_rank)
        with self.writing_together("give another path"), own.open("ab") as stream:
            stream.truncate(whole_bytes(own))

    def writing(self, remedy: str = KEPT) -> contextlib.AbstractContextManager[None]:
        return writing("--articles.path", self.path, remedy)

    @contextlib.contextmanager
    def writing_together(self, remedy: str = KEPT) -> Iterator[None]:
        with together(), self.writing(remedy):
            yield

    def written_batches(self) -> set[int]:
        """Return the numbers of the batches that an interrupted run has written on this machine.

        Raises:
            OnionError: it had other headlines or settings.
        """
        done: set[int] = set()
        for part in self.parts:
            for batch in read_batches(part):
                if batch.settings != self.settings:
                    raise OnionError(
                        f"--articles.resume true: {part} was written with other headlines or settings; use the same ones, or"
                        " omit the flag to start over."
                    )
                done.add(batch.number)
        return done

    def remove_parts(self) -> set[int]:
        for part in self.parts:
            part.unlink(missing_ok=True)  # another machine that shares the folder may remove it as well
        return set()

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: ArticleBatch, *args: Any, **kwargs: Any
    ) -> None:
        if not prediction.articles:
            return
        kept = [article for article in prediction.articles if article.rank is None or article.rank <= self.kept]
        try:
            with self.writing(), self.part(trainer.global_rank).open("ab") as stream:
                stream.write(encode_batch(ArticleBatch(prediction.index, kept), self.settings))
                stream.flush()
                os.fsync(stream.fileno())
        except OnionError as error:
            raise RankError(f"{place()}: {error}" if connected() else str(error)) from error

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.finish(trainer)

    def finish(self, trainer: pl.Trainer) -> None:
        """Write the articles file. Also called by the command: Lightning calls no hook if a resumed run has no batch left."""
        if self.finished:
            return
        first = trainer.local_rank == 0
        gather_batches(self.parts if first else [], self.part(trainer.global_rank), self.writing_together)
        with self.writing_together():
            if trainer.is_global_zero:
                merged = self.merge()
        with self.writing_together():
            if first:
                self.remove_parts()
        self.finished = True
        if trainer.is_global_zero:
            show_articles(*merged, self.path)

    def merge(self) -> tuple[list[ArticleRecord], int]:
        """Merge the part files into the articles file, and return the first articles and the number of all."""
        parts = self.parts
        places = locate_articles(parts)
        merged = self.path.with_name(f".{self.path.name}.all")
        with merged.open("wb") as stream:
            for text in FORMATS[self.suffix](read_articles(parts, places)):
                stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        merged.replace(self.path)
        return list(read_articles(parts, places[:MAX_SHOWN])), len(places)


def adapter_files(checkpoint: str | None) -> list[Path]:
    """Return the files that the adapters are loaded from: a checkpoint, or those in a folder."""
    if checkpoint is None:
        return []
    path = Path(checkpoint)
    return [path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS] if path.is_dir() else [path]


def settings_of(trainer: pl.Trainer, module: Any, checkpoint: str | None) -> dict[str, Any]:
    """Return everything that the articles depend on, by flag: headlines, batches, decoding, seed and weights."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    weights = [hashlib.sha256(file.read_bytes()).hexdigest() for file in adapter_files(checkpoint)]
    return {
        "--data.headlines": hashlib.sha256(repr(data.rows).encode()).hexdigest(),
        "--data.predict_batch_size": data.predict_batch_size,
        **{f"--model.{name}": value for name, value in asdict(module.decoding).items()},
        "--model.seed": module.seed,
        "--data.path": module.copies_digest,
        **{f"--{name}": value for name, value in module.adapter_flags().items()},
        "--ckpt_path": weights,
    }
