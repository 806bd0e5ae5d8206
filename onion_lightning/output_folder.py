"""A folder of results: never replaced unasked, and written whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from onion_lightning.errors import OnionError

__all__ = ["check_folder", "write_folder"]


def check_folder(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Refuse to replace older results unasked.

    Raises:
        OnionError: there are some, or the folder cannot be.
    """
    if folder.exists() and not folder.is_dir():
        raise OnionError(f"--output {folder}: is a file; give a folder.")
    if not overwrite and (found := [name for name in names if (folder / name).exists()]):
        raise OnionError(f"--output {folder}: holds an earlier {found[0]}; give another folder, or --overwrite true.")


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, all of them or none.

    Raises:
        OnionError: the folder cannot be written.
    """
    whole = folder.resolve()  # "." has no name
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        for name, content in files.items():
            (part / name).write_bytes(content.encode() if isinstance(content, str) else content)
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (part / name).replace(folder / name)
    except OSError as error:
        raise OnionError(f"--output {folder}: cannot be written ({error.strerror}); give another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
