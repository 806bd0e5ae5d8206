"""What `evaluate` and `attend` say on the terminal when they are done."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.attention.maps import Checks
from onion_lightning.attention.phrase_attention import AttentionAnswer, Figures
from onion_lightning.attention.phrases import Phrase
from onion_lightning.evaluation.evaluator import DEFAULT_N, SYSTEMS
from onion_lightning.evaluation.report import TITLES, list_figures

__all__ = ["show_attention", "show_evaluation"]

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
HEADS = 8  # rows of the table


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


def show_attention(answer: AttentionAnswer, folder: Path) -> None:
    """The first heads, and what is told beside them."""
    names = list(reversed(answer.maps))
    table = Table("Layer", "Head", *(TITLES[name] for name in names), "Controls", "z", box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.justify = "right"
    best = answer.heads[answer.shown]
    for place in answer.ranking[:HEADS]:
        shares = (share(answer.heads[name].key[place]) for name in names)
        table.add_row(*map(str, place), *shares, *beside(best, place))
    rollout = answer.rollout[answer.shown]
    shares = (share(float(answer.rollout[name].key)) for name in names)
    table.add_section()
    table.add_row("rollout", "", *shares, *beside(rollout, ()))
    console = Console(stderr=True)
    console.print()
    console.print(
        f"  How much of its attention “{answer.query.text}” gives to “{answer.key.text}”", highlight=False, markup=False
    )
    console.print(table)
    for line in (
        f"tokens: {tokens_of(answer, answer.query)} → {tokens_of(answer, answer.key)}",
        f"controls: {controls(len(answer.controls))}",
        f"first token, kept apart: {best.first_token.mean():.0%} of the attention on average",
        *(f"{name}: {told(answer.maps[name].checks)}" for name in names),
    ):
        console.print(f"  {line}", highlight=False, markup=False)
    console.print(f"\nPage: {folder / 'attention.html'}", highlight=False, markup=False, soft_wrap=True)


def tokens_of(answer: AttentionAnswer, phrase: Phrase) -> str:
    """The tokens that were measured, which may hold more than the phrase."""
    return "|".join(answer.words[phrase.first : phrase.stop]).replace("\n", "⏎").strip()


def controls(count: int) -> str:
    if count < 3:
        return "fewer than three spans as long as the key before the query: no z"
    return f"{count} spans as long as the key, at a similar distance"


def beside(figures: Figures, place: tuple[int, ...]) -> tuple[str, str]:
    """Controls and z-score of a head, or of the rollout."""
    mean, z = float(figures.control_mean[place]), float(figures.z[place])
    return ("" if math.isnan(mean) else share(mean)), ("" if math.isnan(z) else f"{z:.1f}")


def share(value: float) -> str:
    """A share of the attention in percent; a very small one with one digit that counts."""
    if value >= 0.001 or value == 0:
        return f"{value:.1%}"
    return f"{np.format_float_positional(100 * value, precision=1, fractional=False, trim='-')}%"


def told(checks: Checks) -> str:
    off = checks.logit_difference / checks.logit_scale
    return f"rows sum to 1 within {checks.row_sum_error:.0e}, logits are the usual ones within {off:.0e}"
