"""Lets `datasets` write to this project's cache where its own cannot be written to."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import datasets

from onion_lightning.errors import OnionError, reason
from onion_lightning.messages import tell
from onion_lightning.pretrained.demo import cache_dir
from onion_lightning.ranks import gather, on_rank_zero

__all__ = ["shares_cache", "use_writable_cache", "writing_cache"]


def use_writable_cache(*names: str) -> None:
    """Replace the cache of `datasets` if it is read-only or another user's (datasets#7900, unsloth#6148).

    `datasets` locks files there even to read from it.

    Args:
        names: IDs on the Hub; what the read-only cache contains of these datasets is linked into the new one.

    Raises:
        OnionError: neither cache can be written to.
    """
    found = Path(datasets.config.HF_DATASETS_CACHE)
    if is_writable(found):
        return
    own = cache_dir() / "datasets"
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnionError(
            f"HF_DATASETS_CACHE {found}: is not writable, and neither is {own} ({reason(error)}); set HF_DATASETS_CACHE or"
            " ONION_LIGHTNING_CACHE to a writable folder."
        ) from error
    for name in (name.replace("/", "___").lower() for name in names):
        with contextlib.suppress(OSError):  # it may be absent or unreadable; `datasets` then downloads it
            link_files(found / name, own / name)
    datasets.config.HF_DATASETS_CACHE = own
    datasets.config.DOWNLOADED_DATASETS_PATH = own / datasets.config.DOWNLOADED_DATASETS_DIR
    tell(f"The cache {found} is not writable; reading from it, and writing to {own}.")


def shares_cache() -> bool:
    """Return whether this process writes to the same cache as rank 0, by a file that rank 0 puts there for a moment.

    Unlike locks, this needs nothing of a network file system that it may lack.
    """
    use_writable_cache()
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    name = on_rank_zero(lambda: mark(folder))
    found = (folder / name).exists()
    gather(found)  # all have looked
    on_rank_zero(lambda: (folder / name).unlink())
    return found


def mark(folder: Path) -> str:
    name = f".{uuid.uuid4().hex}.marker"
    (folder / name).touch()
    return name


@contextlib.contextmanager
def writing_cache() -> Iterator[None]:
    """Turn a full disk under the cache of `datasets` into one sentence.

    Raises:
        OnionError: there is no space left, or a quota is exceeded.
    """
    try:
        yield
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "Not enough disk space" in str(cause)
        if not full:
            raise
        raise OnionError(
            f"HF_DATASETS_CACHE {datasets.config.HF_DATASETS_CACHE}: has no space left for the tokenized corpus; free disk"
            " space, or set HF_DATASETS_CACHE to another folder."
        ) from error


def is_writable(folder: Path) -> bool:
    """Return whether files can be created in a folder, and its lock files opened."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        locks = list(folder.glob("*.lock"))
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK) and all(os.access(lock, os.R_OK | os.W_OK) for lock in locks)


def link_files(source: Path, target: Path) -> None:
    """Create a folder like another one, with links to its files."""
    if not target.exists():
        shutil.copytree(source, target, copy_function=os.symlink, ignore=shutil.ignore_patterns("*.lock"))
