"""The articles file: JSON lines in the order of the headlines, whichever rank wrote them, and going on after a kill."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from onion_lightning.errors import OnionError

__all__ = ["ArticleWriter"]

FEW = 8  # articles that are shown on the terminal as well


class ArticleWriter(BasePredictionWriter):
    """Writes articles as JSON lines, in the order of the headlines.

    Each rank keeps its batches in a part file beside the target, a line a batch; at the end they become the target,
    atomically.

    Args:
        path: the articles file.
        resume: go on with the batches that a killed run with the same headlines and settings left missing.
    """

    def __init__(self, path: str = "articles.jsonl", resume: bool = False) -> None:
        super().__init__("batch")
        self.path = Path(path).expanduser()
        self.resume = resume
        self.checkpoint: str | None = None  # whose adapters write; set by the command

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
        self.settings = fingerprint(trainer, pl_module, self.checkpoint)
        mine = self.part(trainer.global_rank)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = self.take_up(trainer, mine)
            trainer.strategy.barrier("articles are read")  # before any rank writes
            if trainer.is_global_zero and not self.resume:
                for part in self.parts:
                    part.unlink()
            trainer.strategy.barrier("articles are cleared")
            mine.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise OnionError(
                f"--articles.path {self.path}: cannot be written ({error.strerror}); give another path."
            ) from error

    def take_up(self, trainer: pl.Trainer, mine: Path) -> list[str]:
        """Tell the data module which batches an earlier run wrote; returns this rank's own lines, without a cut one."""
        if not self.resume:
            return []
        done: set[int] = set()
        for part in self.parts:
            for batch in read_part(part):
                if batch["settings"] != self.settings:
                    raise OnionError(
                        f"--articles.resume true: {part} was written with other headlines or settings; give the same ones, or"
                        " leave the flag out to begin anew."
                    )
                done.add(batch["batch"])
        trainer.datamodule.done_batches = done  # type: ignore[attr-defined]
        return [json.dumps(batch, ensure_ascii=False) for batch in read_part(mine)]

    def write_on_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *args: Any, **kwargs: Any
    ) -> None:
        if not prediction["articles"]:
            return
        batch = {"batch": prediction["index"], "settings": self.settings, "articles": prediction["articles"]}
        with self.part(trainer.global_rank).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(batch, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.strategy.barrier("articles are written")
        if trainer.is_global_zero:
            show_articles(self.merge(), self.path)

    def merge(self) -> list[dict[str, Any]]:
        """Put the parts together as the articles file."""
        parts = self.parts
        found = [record for part in parts for batch in read_part(part) for record in batch["articles"]]
        records = sorted(found, key=lambda record: (record["index"], record["candidate"]))
        merged = self.path.with_name(f".{self.path.name}.all")
        with merged.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            os.fsync(stream.fileno())
        merged.replace(self.path)
        for part in parts:
            part.unlink()
        return records


def read_part(part: Path) -> Iterator[dict[str, Any]]:
    """The whole batches of a part file; a line that a kill cut short is left out."""
    if part.exists():
        for line in part.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            yield json.loads(line)


def fingerprint(trainer: pl.Trainer, module: Any, checkpoint: str | None) -> str:
    """What articles depend on: headlines, batches, decoding, seed and weights."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    weights = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest() if checkpoint else ""
    parts = (data.rows, data.batch_size, module.decoding, module.seed, module.adapter_flags(), weights)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def show_article(console: Console, headline: str, article: str, note: str | None = None) -> None:
    body, title = Text(article or "(the model wrote nothing)"), Text(headline, style="bold")
    width = min(console.width, 100)
    console.print(
        Panel(body, title=title, title_align="left", subtitle=note, subtitle_align="right", width=width, padding=1)
    )


def show_articles(records: list[dict[str, Any]], path: Path) -> None:
    """Show the articles on the terminal when there are few, and say where they are."""
    console = Console()
    for record in records if len(records) <= FEW else []:
        note = f"{record['tokens']} tokens" + ("" if record["finish_reason"] == "eos" else ", cut at max_new_tokens")
        show_article(console, record["headline"], record["article"], note)
    count = f"{len(records)} article{'s' if len(records) != 1 else ''}"
    Console(stderr=True).print(f"{count} written to {path}", highlight=False, soft_wrap=True)
