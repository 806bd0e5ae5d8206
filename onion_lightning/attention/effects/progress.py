"""Shows how many interventions are done: a bar on a terminal, lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from onion_lightning.heartbeat import Heartbeat, bars_allowed, log_line

__all__ = ["Progress", "reporting"]


class Progress:
    """Counts interventions, and calls `show` with the number that were made."""

    def __init__(self) -> None:
        self.done = 0
        self.show: Callable[[int], None] = lambda done: None

    def __call__(self, count: int) -> None:
        """Add the interventions of a pass."""
        self.done += count
        self.show(self.done)


@contextmanager
def reporting(progress: Progress, name: str, total: int, tokens: int) -> Iterator[None]:
    """Show how many interventions are done, inside the block: a bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal and bars_allowed():
        columns = (
            TextColumn(f"  {name}: interventions"),
            BarColumn(),
            TextColumn("{task.completed:,} of {task.total:,}"),
        )
        with ProgressBar(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task(name, total=total)
            progress.show = lambda done: bar.update(task, completed=done)
            yield
        return
    log_line(f"{name}: {total:,} interventions on {tokens} tokens")
    with Heartbeat(lambda: f"{name}: {progress.done:,} of {total:,} interventions"):
        yield
