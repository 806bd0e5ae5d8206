"""How a checkpoint reaches the disk, and how it is found and read again; `resume` says what is in it.

A checkpoint holds adapters, optimizer, schedule, loop and data position, never base weights. It is opened with
`weights_only=True`, so no pickle is ever executed, and it replaces the one before it atomically.
"""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters import CHECKPOINT_KEY

__all__ = [
    "AtomicCheckpointIO",
    "move_aside",
    "read_checkpoint",
    "resolve",
]

RUN_FILES = ("last.ckpt", "best.ckpt", "metrics.csv", "samples.txt", "corpus_report.json", "config.yaml")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames: a kill leaves the old file or the new one, whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OnionError: the disk is full or the folder cannot be written; an earlier checkpoint is as it was.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
            flush_folder(target.parent)
        except (OSError, RuntimeError) as error:  # a full disk reaches us as torch's RuntimeError
            part.unlink(missing_ok=True)
            kept = "the checkpoint before it is whole" if target.exists() else "there is none before it"
            raise OnionError(
                f"--checkpoint.dirpath {target.parent}: {target.name} could not be written ({error}); {kept}. Make room"
                " or give a folder that can be written."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, from where Lightning copies what it needs."""
        return read_checkpoint(Path(path))


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Open a checkpoint of this project, without executing anything in it.

    Raises:
        OnionError: it is missing, cut short, holds pickled code, or is another program's.
    """
    if not path.is_file():
        raise OnionError(f"--ckpt_path {path}: no such file{other_checkpoint(path)}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise OnionError(
            f"--ckpt_path {path}: holds more than tensors and plain values, so it was not opened; it is no checkpoint of"
            f" onion_lightning{other_checkpoint(path)}."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise OnionError(f"--ckpt_path {path}: the file is damaged or cut short{other_checkpoint(path)}.") from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise OnionError(f"--ckpt_path {path}: not a checkpoint of onion_lightning{other_checkpoint(path)}.")
    return checkpoint


def other_checkpoint(path: Path) -> str:
    """Name the newest other checkpoint near a bad one that opens."""
    folder = path.parent
    found = sorted(folder.glob("*.ckpt"), key=lambda f: f.stat().st_mtime, reverse=True) if folder.is_dir() else []
    for other in found:
        if other != path and opens(other):
            return f"; the newest good one is {other}"
    return ""


def opens(path: Path) -> bool:
    try:
        return CHECKPOINT_KEY in torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        return False


def resolve(ckpt_path: str, folder: Path) -> Path:
    """The file that `--ckpt_path` names: `last` and `best` are those of the run's own folder."""
    return folder / f"{ckpt_path}.ckpt" if ckpt_path in ("last", "best") else Path(ckpt_path).expanduser()


def move_aside(folder: Path) -> Path | None:
    """Move an earlier run's files into a folder of their own beside them.

    Returns:
        That folder, or None where there was no earlier run.
    """
    files = [folder / name for name in RUN_FILES if (folder / name).exists()]
    if not files:
        return None
    target = folder / time.strftime("previous-%Y%m%d-%H%M%S")
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{target.name.split('_')[0]}_{number}")
    target.mkdir()
    for file in files:
        file.rename(target / file.name)
    return target
