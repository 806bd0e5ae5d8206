"""Prints the main metrics of an evaluation on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.evaluation.metrics import EvaluationMetrics, EvaluationSettings
from onion_lightning.evaluation.report import columns_of, metric_table, titles_of
from onion_lightning.evaluation.tasks import DEFAULT_N
from onion_lightning.messages import tell

__all__ = ["show_evaluation"]

SHOWN = (
    "loss",
    "perplexity",
    "bits_per_byte",
    "eos_rate",
    "loop_rate",
    "headline_top_1",
    "copied_rate",
    "seconds",
    "style_distance",
)


def show_evaluation(metrics: EvaluationMetrics, folder: Path) -> None:
    """Print the main metrics, the loss differences, notes on small data, and the path of the report."""
    titles = titles_of(metrics)
    table = Table("", *(titles[name] for name in columns_of(metrics)), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in metric_table(metrics):
        if row.key in SHOWN:
            table.add_row(row.title, *(cell.value for cell in row.cells))
    Console(stderr=True).print(table)
    for line in (*differences(metrics), *notes(metrics.settings)):
        tell(f"  {line}")
    tell(f"\nReport: {folder / 'report.html'}")


def differences(metrics: EvaluationMetrics) -> list[str]:
    lines = []
    pairs = {"tuned_minus_base": "tuned minus base", "tuned_minus_few_shot": "tuned minus few-shot"}
    pairs |= {f"{name}_minus_tuned": f"{name} minus tuned" for name in metrics.settings.also}
    for key, title in pairs.items():
        difference, (low, high) = metrics.paired[key].difference, metrics.paired[key].interval
        lines.append(f"loss, {title}: {difference:+.3f} (95% interval {low:+.3f} to {high:+.3f})")
    if pair := metrics.paired.get("best_of_minus_tuned"):
        name, (low, high) = f"best of {metrics.settings.best_of}", pair.interval
        lines.append(
            f"mean reciprocal rank, {name} minus tuned: {pair.difference:+.2f} (95% interval {low:+.2f} to {high:+.2f})"
        )
    return lines


def notes(settings: EvaluationSettings) -> list[str]:
    """Return what the user should know about the number of headlines and examples."""
    lines = []
    if settings.n is None and settings.headlines < DEFAULT_N:
        lines.append(f"evaluated all {settings.headlines} test headlines; the default is {DEFAULT_N} (--count)")
    if settings.shots_least < settings.shots:
        lines.append(
            f"for some headlines, only {settings.shots_least} of {settings.shots} few-shot examples fit (--shots)"
        )
    return lines
