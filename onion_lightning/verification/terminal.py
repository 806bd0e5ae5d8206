"""Prints the result of `verify` on the terminal."""

from pathlib import Path

from rich import box
from rich.table import Table

from onion_lightning.messages import stderr_console, tell
from onion_lightning.verification.comparison import Comparison
from onion_lightning.verification.result import VERIFIED, Verification, describe, figure, share

__all__ = ["show_verification"]

WIDTH = 100  # columns


def show_verification(result: Verification, folder: Path) -> None:
    """Print what each form has in common with the checkpoint, and the path of the figures."""
    console = stderr_console()
    table = Table("", *(one.form for one in compared(result)), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for title, *cells in rows(result):
        table.add_row(title, *cells)
    console.print(table, width=min(console.width, WIDTH), highlight=False)
    for name, loss in result.losses().items():
        if loss is not None:
            low, high = loss.interval
            tell(f"  held-out loss of {name}: {loss.value:.4f} ({low:.4f} to {high:.4f}) nats per token")
    tell(f"\nFigures: {folder / VERIFIED}, and a table in {folder / 'README.md'}")


def compared(result: Verification) -> list[Comparison]:
    return ([] if result.cost is None else [result.cost]) + result.comparisons


def rows(result: Verification) -> list[list[str]]:
    """Return the lines of the table: a title, and a cell for each form."""
    forms, count = compared(result), len(result.probes)
    return [
        ["compared with", *(one.reference for one in forms)],
        ["same prompt ids", *(share(one.same_prompts, count) for one in forms)],
        ["same article ids", *(share(one.same_articles, count) for one in forms)],
        ["log p of a token, mean difference", *(figure(one.mean) for one in forms)],
        ["largest difference", *(figure(one.largest) for one in forms)],
        ["held-out loss", *("?" if one.loss is None else f"{one.loss.value:+.4f}" for one in forms)],
        ["same greedy articles", *(share(sum(at is None for at in one.diverges), count) for one in forms)],
        ["ended by themselves", *(f"{one.ended:.0%}" for one in forms)],
        ["", *("" if one is result.cost else describe(one) for one in forms)],
    ]
