"""A folder of results: never replaced unasked, and written whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from onion_lightning.errors import OnionError, reason

__all__ = ["check_folder", "write_folder"]


def check_folder(output: str, names: Iterable[str], overwrite: bool) -> Path:
    """The folder that `--output` means. Asked before the work is done: it is not made yet.

    Raises:
        OnionError: it holds older results, or it cannot be.
    """
    try:
        folder = Path(output).expanduser()
        if folder.exists() and not folder.is_dir():
            raise OnionError(f"--output {output}: is a file; give a folder.")
        found = [name for name in names if (folder / name).exists()]
        nearest = next(place for place in (folder, *folder.resolve().parents) if place.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise OnionError(f"--output {output}: {nearest} cannot be written; give another folder.")
    except (OSError, RuntimeError) as error:  # RuntimeError: a user or a link that leads nowhere
        raise unwritable(output, error) from error
    if found and not overwrite:
        raise OnionError(f"--output {output}: holds an earlier {found[0]}; give another folder, or --overwrite true.")
    if folders := [name for name in found if (folder / name).is_dir()]:
        raise OnionError(f"--output {output}: its {folders[0]} is a folder; give another one.")
    return folder


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, all of them or none.

    Raises:
        OnionError: the folder cannot be written.
    """
    part = folder / f".{os.getpid()}.part"  # inside: the folder may be a file system of its own
    try:
        part.mkdir(parents=True)
        for name, content in files.items():
            (part / name).write_bytes(content.encode() if isinstance(content, str) else content)
        for name in files:
            (part / name).replace(folder / name)
    except OSError as error:
        raise unwritable(str(folder), error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def unwritable(output: str, error: Exception) -> OnionError:
    return OnionError(f"--output {output}: cannot be written ({reason(error)}); give another folder.")
