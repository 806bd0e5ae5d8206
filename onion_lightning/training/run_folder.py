"""Creates the run's folder and moves an earlier run's files aside."""

import os
from pathlib import Path

import lightning.pytorch as pl
from rich.console import Console

from onion_lightning.errors import OnionError
from onion_lightning.training.checkpoint_io import move_aside

__all__ = ["RunFolder"]


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
