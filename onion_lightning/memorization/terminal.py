"""Prints the results of a memorization test on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.memorization.membership import RESOLVED
from onion_lightning.memorization.report import Exposed, extraction_table, membership_table
from onion_lightning.memorization.result import Memorization
from onion_lightning.messages import tell

__all__ = ["show_memorization"]

SHOWN = 5  # of the most exposed articles


def show_memorization(result: Memorization, exposed: Sequence[Exposed], folder: Path) -> None:
    """Print the figures, the most exposed articles, the verdict and the path of the report."""
    headers, rows = extraction_table(result)
    extraction = make_table("verbatim (longest)", *map("\n".join, headers))
    for title, note, cells in rows:
        figures = (f"{one.verbatim} of {one.rows} ({one.longest})" if one and one.rows else "" for one in cells)
        extraction.add_row(f"{title}, {note}", *figures)
    membership = make_table("membership", "AUC", "TPR at 1% FPR")
    for title, note, one in membership_table(result):
        interval = f"{one.auc:.2f} ({one.auc_interval.low:.2f} to {one.auc_interval.high:.2f})"
        rate = f"under {RESOLVED} held-out" if one.true_positives is None else f"{one.true_positives:.1%}"
        membership.add_row(f"{title}, {note.lower()}", interval, rate)
    most = make_table("most exposed", "longest run", "loss", "base")
    for article in exposed[:SHOWN]:
        scores = article.row.scores
        most.add_row(article.row.row.headline, str(article.longest), f"{scores['tuned']:.2f}", f"{scores['base']:.2f}")
    for table in (extraction, membership, most):
        Console(stderr=True).print(table)
    for line in (*result.notes, result.verdict):
        tell(f"  {line}")
    tell(f"\nReport: {folder / 'report.html'}")


def make_table(*titles: str) -> Table:
    table = Table(*titles, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
