"""Writes, finds and reads checkpoint files.

A checkpoint contains adapters, optimizer, schedule, loops and the data position, never base weights. It is opened with
`weights_only=True`, so no pickle is ever executed, and it replaces the previous one atomically.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.pretrained.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter_folder
from onion_lightning.training.peft_checkpoint import checkpoint_from_folder

__all__ = [
    "AtomicCheckpointIO",
    "checkpoint_digest",
    "is_valid",
    "read_checkpoint",
    "resolve",
]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file beside the target, flushes it to disk, then renames it.

    A kill at any moment leaves either the old file or the new one, complete.

    Args:
        report: called with each file that was written.
    """

    def __init__(self, report: Callable[[Path], None] | None = None) -> None:
        self.report = report

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OnionError: the disk is full or the folder cannot be written; an earlier checkpoint is unchanged.
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
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            part.unlink(missing_ok=True)
            kept = "the previous checkpoint is intact" if target.exists() else "there is no previous one"
            raise OnionError(
                f"--checkpoint.dirpath {target.parent}: {target.name} could not be written ({error}); {kept}; free disk"
                " space, or choose a writable folder."
            ) from error
        if self.report is not None:
            self.report(target)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint into CPU memory; Lightning copies what it needs to the device."""
        return read_checkpoint(Path(path))


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path, flag: str = "--ckpt_path") -> dict[str, Any]:
    """Read a checkpoint of this project, or a folder of adapters, without executing anything in it.

    Args:
        path: of the file or folder.
        flag: that names it, for messages.

    Raises:
        OnionError: the file is missing, truncated, contains pickled code, or is another program's.
    """
    if is_adapter_folder(path):
        return checkpoint_from_folder(path, flag)
    if path.is_dir():
        raise OnionError(
            f"{flag} {path}: is a folder without {ADAPTER_CONFIG}; give a checkpoint, or a folder that export or peft"
            f" wrote{other_checkpoint(path / ADAPTER_CONFIG)}."
        )
    if not path.is_file():
        best = ", which only a run with validation writes" if path.name == "best.ckpt" else ""
        raise OnionError(f"{flag} {path}: no such file{best}{other_checkpoint(path)}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise OnionError(
            f"{flag} {path}: contains more than tensors and plain values, so it was not opened; it is not a"
            f" checkpoint of onion_lightning{other_checkpoint(path)}."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise OnionError(f"{flag} {path}: the file is damaged or truncated{other_checkpoint(path)}.") from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise OnionError(f"{flag} {path}: not a checkpoint of onion_lightning{other_checkpoint(path)}.")
    return checkpoint


def other_checkpoint(path: Path) -> str:
    """Name the newest valid checkpoint in the folder of an invalid one."""
    folder = path.parent
    found = sorted(folder.glob("*.ckpt"), key=lambda f: f.stat().st_mtime, reverse=True) if folder.is_dir() else []
    for other in found:
        if other != path and is_valid(other):
            return f"; the newest valid one is {other}"
    return ""


def is_valid(path: Path) -> bool:
    try:
        return CHECKPOINT_KEY in torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        return False


def resolve(ckpt_path: str, folder: Path) -> Path:
    """Return the file that `--ckpt_path` names: `last` and `best` are in the run's folder."""
    return folder / f"{ckpt_path}.ckpt" if ckpt_path in ("last", "best") else Path(ckpt_path).expanduser()


def checkpoint_digest(path: Path) -> str:
    """Return a hash of a checkpoint, or of the adapters in a folder."""
    digest = hashlib.sha256()
    for file in [path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS] if path.is_dir() else [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
