"""Writes sample articles after each validation."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

__all__ = ["Samples"]


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
