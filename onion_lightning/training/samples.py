"""Generates sample articles after each validation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger

from onion_lightning.errors import check_range
from onion_lightning.model.articles.record import Article
from onion_lightning.model.sharding.pace import keeping_pace
from onion_lightning.output_folder import writing_run

__all__ = ["Samples"]


class Samples(pl.Callback):
    """Generates articles for a few validation headlines after each validation, in `samples.txt` and a W&B table.

    Args:
        count: number of validation headlines; 0 disables the samples.
        max_new_tokens: maximum number of tokens in a sample.
        dirpath: folder of `samples.txt`; set automatically from --checkpoint.dirpath.
    """

    def __init__(self, count: int = 4, max_new_tokens: int = 200, dirpath: str = "checkpoints/run") -> None:
        check_range("--samples.count", count, count >= 0, "at least 0 (0 disables them)")
        check_range("--samples.max_new_tokens", max_new_tokens, max_new_tokens >= 1, "at least 1")
        self.count = count
        self.max_new_tokens = max_new_tokens
        self.path = Path(dirpath).expanduser() / "samples.txt"
        self.report: Callable[[int, Path], None] | None = None  # called with the number of samples and their file

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trial = trainer.sanity_checking or getattr(trainer, "fast_dev_run", False)
        if self.count == 0 or trial or trainer.state.fn != "fit":
            return
        module: Any = pl_module
        headlines = trainer.datamodule.texts["validation"][: self.count]["headline"]  # type: ignore[attr-defined]
        limit = {
            "max_new_tokens": self.max_new_tokens,
            "flag": "--samples.max_new_tokens",
            "decoding": module.one_article,
        }
        with keeping_pace(module.pace):
            written = module.write(headlines, seed=module.seed, **limit) if trainer.is_global_zero else []
        if written:
            self.save(trainer, headlines, written)

    def save(self, trainer: pl.Trainer, headlines: list[str], written: list[list[Article]]) -> None:
        """Append samples to the file, and log them."""
        samples = [(headline, articles[0].text) for headline, articles in zip(headlines, written, strict=True)]
        with writing_run(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"=== step {trainer.global_step}\n\n")
            stream.writelines(f"{headline}\n{article}\n\n" for headline, article in samples)
        if self.report is not None:
            self.report(len(samples), self.path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = [[trainer.global_step, *sample] for sample in samples]
                logger.log_table("samples", columns=["step", "headline", "article"], data=rows)
