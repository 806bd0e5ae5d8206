"""Prints messages for the user on stderr, once per job."""

import functools
import io
import os
import sys

from rich.console import Console

__all__ = ["is_rank_zero", "print_any_text", "tell", "tell_once"]


def print_any_text() -> None:
    """Let standard output and error replace characters that their encoding lacks (cp1252, ASCII), instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def is_rank_zero() -> bool:
    """Return whether this process is global rank 0. Works before Lightning has assigned ranks."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def tell(message: str, on_every_rank: bool = False) -> None:
    """Print a message as it is, without markup or line breaks of its own; on rank 0 only, unless any rank may be alone."""
    if on_every_rank or is_rank_zero():
        Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


@functools.cache
def tell_once(message: str) -> None:
    """Print a message as `tell` does, unless this run has printed it before. `main` begins a new run."""
    tell(message)
