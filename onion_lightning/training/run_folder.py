"""Creates and locks the run's folder, moves an earlier run's files aside, and reads what a run left there."""

import json
import os
import time
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import yaml

from onion_lightning.errors import OnionError, reason
from onion_lightning.messages import tell
from onion_lightning.pretrained.adapter_folder import is_adapter_folder, read_settings
from onion_lightning.ranks import on_rank_zero
from onion_lightning.training.job.lock import lock_folder

__all__ = ["RunFolder", "decoding_of_run", "find_figures", "move_aside", "read_json", "read_run_config"]

DECODING = ("max_new_tokens", "temperature", "top_p", "repetition_penalty")
RUN_FILES = ("last.ckpt", "best.ckpt", "metrics.csv", "samples.txt", "corpus_report.json", "config.yaml")


class RunFolder(pl.Callback):
    """Creates the run's folder when `fit` starts, and locks it. A new run moves an earlier run's files aside.

    Args:
        folder: the run's folder.
        resumes: whether this run resumes the one in the folder.
    """

    def __init__(self, folder: Path, resumes: bool) -> None:
        self.folder = folder
        self.resumes = resumes
        self.lock: IO[str] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit" and not getattr(trainer, "fast_dev_run", False):
            on_rank_zero(self.take)

    def take(self) -> None:
        """Create and lock the folder, and move aside what is there.

        Raises:
            OnionError: another run is using it, or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = lock_folder(self.folder)
            moved = None if self.resumes else move_aside(self.folder)
        except OSError as error:
            raise OnionError(
                f"--checkpoint.dirpath {self.folder}: cannot be written ({reason(error)}); give another folder."
            ) from error
        if not os.access(self.folder, os.W_OK):
            raise OnionError(f"--checkpoint.dirpath {self.folder}: cannot be written; give another folder.")
        if moved:
            tell(f"Moved the files of an earlier run to {moved}; --ckpt_path {moved / 'last.ckpt'} resumes that run.")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.release()

    def release(self) -> None:
        """Let other runs use the folder. The operating system does so when the process ends."""
        if self.lock is not None:
            self.lock.close()


def move_aside(folder: Path) -> Path | None:
    """Move an earlier run's files into a folder of their own inside the run's folder.

    Returns:
        That folder, or None if there was no earlier run.
    """
    files = [folder / name for name in RUN_FILES if (folder / name).exists()]
    if not files:
        return None
    stamp, number = time.strftime("previous-%Y%m%d-%H%M%S"), 1
    target = folder / stamp
    while target.exists():
        number += 1
        target = folder / f"{stamp}_{number}"
    target.mkdir()
    for file in files:
        file.rename(target / file.name)
    return target


def read_run_config(folder: Path) -> dict[str, Any]:
    """Return the content of `config.yaml` in a run's folder; empty if there is none.

    Raises:
        OnionError: the file is damaged.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OnionError(f"{file}: cannot be read ({reason(error).splitlines()[0]}); correct or remove it.") from error
    return content if isinstance(content, dict) else {}


def decoding_of_run(checkpoint: Path) -> dict[str, Any]:
    """Return the decoding flags of the run that wrote a checkpoint, or those that a folder was exported with."""
    if is_adapter_folder(checkpoint):
        found = read_settings(checkpoint).get("decoding", {})
    else:
        found = read_run_config(checkpoint.parent).get("model") or {}
    return {f"model.{name}": found[name] for name in DECODING if name in found}


def find_figures(checkpoint: Path, name: Path) -> dict[str, Any] | None:
    """Return the figures of a checkpoint that another command wrote, beside it or in the working directory; None without any.

    Figures of another checkpoint, or of an earlier state of this one, are not used.

    Args:
        checkpoint: that the figures describe.
        name: of the file, such as `evaluation/metrics.json`; may be absolute.
    """
    for file in dict.fromkeys((checkpoint.parent / name, name)):
        if not file.is_file():
            continue
        figures = read_json(file)
        same = Path(figures.get("settings", {}).get("checkpoint", "")).resolve() == checkpoint.resolve()
        if same and file.stat().st_mtime >= checkpoint.stat().st_mtime:
            return figures
        if same:
            tell(f"{file}: is older than {checkpoint}, so its figures are not used; write them again.")
    return None


def read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OnionError(f"{file}: cannot be read ({reason(error)}); remove it, or write it again.") from error
