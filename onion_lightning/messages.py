"""Prints messages for the user on stderr, once per job."""

import errno
import functools
import io
import os
import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console

__all__ = [
    "is_first_of_machine",
    "is_rank_zero",
    "print_any_text",
    "prints_for_machine",
    "stderr_console",
    "tell",
    "tell_once",
]


def print_any_text() -> None:
    """Let standard output and error replace characters that their encoding lacks (cp1252, ASCII), instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class SteadyStream:
    """A text stream whose failures are ignored: a run does not depend on the terminal or pipe that it reports to.

    Args:
        stream: the stream, all of whose other attributes are passed on.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self.lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """Discard what is written from now on if the reader is gone: otherwise Python would fail at exit."""
        if error.errno in (errno.EPIPE, errno.EIO):
            with suppress(OSError):  # not a file of the operating system
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)


def is_rank_zero() -> bool:
    """Return whether this process is global rank 0. Works before Lightning has assigned ranks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def is_first_of_machine() -> bool:
    """Return whether this process is the first rank of its machine, by the launcher's count."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def prints_for_machine() -> bool:
    """Return whether this process prints for its machine; under SLURM only rank 0 does, because all share a log."""
    return is_rank_zero() if "SLURM_PROCID" in os.environ else is_first_of_machine()


def tell(message: str, on_every_rank: bool = False) -> None:
    """Print a message as it is, without markup or line breaks of its own; on rank 0 only, unless any rank may be alone."""
    if on_every_rank or is_rank_zero():
        stderr_console().print(message, highlight=False, markup=False, soft_wrap=True)


@functools.cache
def tell_once(message: str) -> None:
    """Print a message as `tell` does, unless this run has printed it before. `main` begins a new run."""
    tell(message)


def stderr_console() -> Console:
    """Return a console on stderr that never fails."""
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # set by rich while a bar is shown
    return Console(file=cast(IO[str], SteadyStream(stream))) if stream is not None else Console(stderr=True)
