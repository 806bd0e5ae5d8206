"""Chooses how a command shows its progress."""

import sys
from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as pl

from onion_lightning.errors import OnionError
from onion_lightning.training.progress.bar import ProgressBar
from onion_lightning.training.progress.batch_lines import BatchLines
from onion_lightning.training.progress.fit_lines import FitLines

__all__ = ["ProgressMode", "choose_progress", "progress_callback"]

ProgressMode = Literal["auto", "bar", "lines", "none"]


def choose_progress(asked: ProgressMode, enable_progress_bar: bool | None) -> ProgressMode:
    """Return bar, lines or none: with `auto`, a bar if standard error is a terminal, and lines otherwise.

    Raises:
        OnionError: the two flags contradict each other.
    """
    if enable_progress_bar is False:
        if asked in ("bar", "lines"):
            raise OnionError(f"--progress {asked}: contradicts --trainer.enable_progress_bar false; omit one of them.")
        return "none"
    if asked != "auto":
        return asked
    return "bar" if sys.stderr is not None and sys.stderr.isatty() else "lines"


def progress_callback(
    mode: ProgressMode, command: str, configured: Sequence[pl.Callback] = ()
) -> ProgressBar | FitLines | BatchLines | None:
    """Return the callback that shows the progress of a command on a Trainer.

    Args:
        mode: what `choose_progress` returned.
        command: the command.
        configured: callbacks of `--trainer.callbacks`; a progress bar among them replaces this project's.
    """
    if any(isinstance(callback, pl.callbacks.ProgressBar) for callback in configured):
        return None
    match mode:
        case "bar":
            return ProgressBar()
        case "lines":
            return FitLines() if command == "fit" else BatchLines(command)
        case _:
            return None
