"""Prints the result of `verify` on the terminal."""

from pathlib import Path

from rich import box
from rich.table import Table

from onion_lightning.messages import stderr_console, tell
from onion_lightning.verification.result import VERIFIED, Verification, table_rows

__all__ = ["show_verification"]

WIDTH = 100  # columns
TITLES = (  # of the columns of `table_rows`, which are lines here
    "",
    "compared with",
    "same prompt ids",
    "same article ids",
    "log p of a token, mean difference",
    "largest difference",
    "held-out loss, difference",
    "same greedy articles",
    "ended by themselves",
    "",
)


def show_verification(result: Verification, folder: Path) -> None:
    """Print what each form has in common with the checkpoint, and the path of the figures."""
    console = stderr_console()
    header, *lines = zip(TITLES, *table_rows(result), strict=True)
    table = Table(*header, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*line)
    console.print(table, width=min(console.width, WIDTH), highlight=False)
    for name, loss in result.losses().items():
        if loss is not None:
            low, high = loss.interval
            tell(f"  held-out loss of {name}: {loss.value:.4f} ({low:.4f} to {high:.4f}) nats per token")
    tell(f"\nFigures: {folder / VERIFIED}, and a table in {folder / 'README.md'}")
