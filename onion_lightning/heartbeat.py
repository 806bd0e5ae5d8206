"""Logs how far a long task is, at least every minute."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

__all__ = [
    "MINUTE",
    "Counter",
    "Heartbeat",
    "bars_allowed",
    "format_seconds",
    "log_line",
    "show_progress",
]

MINUTE = 60.0  # seconds

log = logging.getLogger("onion_lightning.progress")
bars = log.getChild("bars")  # off if its parent is


def show_progress(yes: bool, as_bars: bool = True) -> None:
    """Turn all lines on or off. If they are on, rank 0 logs them.

    Args:
        yes: show progress.
        as_bars: allow a bar instead of lines, on a terminal.
    """
    log.setLevel(logging.NOTSET if yes else logging.ERROR)
    bars.setLevel(logging.NOTSET if as_bars else logging.ERROR)


def bars_allowed() -> bool:
    """Return whether a terminal may show a bar instead of lines."""
    return bars.isEnabledFor(logging.INFO)


def log_line(text: str) -> None:
    """Log a line that begins with the time of day."""
    log.info("%s %s", time.strftime("%H:%M:%S"), text)


def format_seconds(seconds: float) -> str:
    """Return a duration such as 0:05:09."""
    return str(timedelta(seconds=round(seconds)))


class Counter:
    """Logs the start of a task on many rows, and every minute how many are done.

    Nothing is logged before the first rows are counted, so a task whose result is cached logs nothing.

    Args:
        task: such as "tokenizing".
        rows: number of rows.
        clock: returns the time in seconds.
    """

    def __init__(self, task: str, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.task = task
        self.rows = rows
        self.done = 0
        self.clock = clock
        self.last: float | None = None  # when the last line was logged

    def begin(self, rows: int) -> None:
        """Count a batch of rows that is processed next."""
        now = self.clock()
        if self.last is None or now - self.last >= MINUTE:
            log_line(
                f"{self.task}: {self.done:,} of {self.rows:,} rows" if self.done else f"{self.task} {self.rows:,} rows"
            )
            self.last = now
        self.done += rows


class Heartbeat:
    """Logs the current line whenever a minute has passed since the last one, from a thread, while a block runs.

    Args:
        line: returns the current line. It is called in the thread, so it must not read tensors.
        seconds: the longest time between two lines.
        clock: returns the time in seconds.
    """

    def __init__(
        self, line: Callable[[], str], seconds: float = MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.line = line
        self.seconds = seconds
        self.clock = clock
        self.last = clock()
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()

    def __enter__(self) -> "Heartbeat":
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread, unless nobody would see its lines. A second call does nothing."""
        if self.thread is None and log.isEnabledFor(logging.INFO):
            self.last = self.clock()
            self.stopped.clear()
            self.thread = threading.Thread(target=self.run, name="progress", daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self.stopped.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def run(self) -> None:
        while not self.stopped.wait(max(self.last + self.seconds - self.clock(), 0.01)):
            self.beat()

    def is_due(self) -> bool:
        """Return whether the last line is a minute old."""
        return self.clock() - self.last >= self.seconds

    def beat(self) -> None:
        """Log the current line if it is due."""
        if self.is_due():
            self.say(self.line())

    def say(self, text: str) -> None:
        """Log a line now; the next one is due a minute later."""
        self.last = self.clock()
        log_line(text)
