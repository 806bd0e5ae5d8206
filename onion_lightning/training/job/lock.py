"""Keeps a second run out of the folder of one that is running."""

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

from onion_lightning.errors import OnionError
from onion_lightning.messages import tell

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock_folder"]


def lock_folder(folder: Path) -> IO[str] | None:
    """Lock a run's folder until the returned file is closed, or until this process ends in any way.

    The lock is the operating system's (`flock`), which NFS passes on to its server. Where there is none, filelock would fall
    back to marker files, which outlive a process that is killed.

    Returns:
        The locked file; None on a file system without locks.

    Raises:
        OnionError: another run is using the folder; the message names its host and process.
    """
    file = (folder / ".lock").open("a+", encoding="utf-8")
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no flock")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = describe(file)
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            tell(f"--checkpoint.dirpath {folder}: its file system has no locks; do not start a second run there.")
            return None
        raise OnionError(
            f"--checkpoint.dirpath {folder}: another run is using this folder ({owner}); give another folder, or wait until"
            " that run has ended."
        ) from error
    file.truncate(0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    json.dump({"host": socket.gethostname(), "process": os.getpid(), "started": started}, file)
    file.flush()
    if hasattr(
        os, "register_at_fork"
    ):  # a worker process that outlives this one for some seconds must not keep the lock
        os.register_at_fork(after_in_child=file.close)
    return file


def describe(file: IO[str]) -> str:
    """Return which run has written its name into a lock file."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"process {found['process']} on {found['host']}, started {found['started']}"
    except (ValueError, KeyError):  # it has locked the file and not yet written
        return "which has just started"
