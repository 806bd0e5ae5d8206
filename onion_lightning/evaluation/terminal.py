"""What `evaluate` and `attend` say on the terminal when they are done."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.evaluation.evaluator import DEFAULT_N, SYSTEMS
from onion_lightning.evaluation.report import TITLES, list_figures

__all__ = ["show_evaluation"]

SHOWN = (
    "loss",
    "perplexity",
    "bits_per_byte",
    "eos_rate",
    "loop_rate",
    "headline_top_1",
    "copied_rate",
    "style_distance",
)


def show_evaluation(metrics: dict[str, Any], folder: Path) -> None:
    """The main figures on the terminal, and where the rest is."""
    table = Table("", *(TITLES[name] for name in ("real", *SYSTEMS)), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in list_figures(metrics):
        if row["key"] in SHOWN:
            table.add_row(row["title"], *(cell["value"] for cell in row["cells"]))
    console = Console(stderr=True)
    console.print(table)
    for other, name in (("base", "base"), ("few_shot", "few-shot")):
        pair = metrics["paired"][f"tuned_minus_{other}"]
        low, high = pair["interval"]
        line = f"  loss, tuned minus {name}: {pair['difference']:+.3f} (95% interval {low:+.3f} to {high:+.3f})"
        console.print(line, highlight=False)
    if metrics["settings"]["headlines"] < DEFAULT_N and metrics["settings"]["n"] is None:
        console.print(f"  the test split has {metrics['settings']['headlines']} headlines, fewer than --n {DEFAULT_N}")
    least, asked = metrics["settings"]["shots_least"], metrics["settings"]["shots"]
    if least < asked:
        console.print(f"  few-shot: of --shots {asked}, only {least} fit the context for some headlines")
    console.print(f"\nReport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
