"""Prints a result on the terminal: a table of the highest-ranked heads, and the checks."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.attention.effects.terminal import show_effects
from onion_lightning.attention.maps import MapChecks
from onion_lightning.attention.phrases import Phrase
from onion_lightning.attention.result import AttentionResult
from onion_lightning.attention.statistics import MIN_FOR_Z, AttentionStatistics

__all__ = ["format_share", "show_attention"]

MAX_HEADS = 8  # rows of the table
TITLES = {"base": "Base", "tuned": "Tuned"}


def show_attention(result: AttentionResult, folder: Path) -> None:
    """Print the highest-ranked heads, notes on how they were measured, and the path of the page."""
    console = Console(stderr=True)
    console.print()
    console.print(
        f"  Share of attention from “{result.query.text}” to “{result.key.text}”", highlight=False, markup=False
    )
    console.print(table_of_heads(result))
    show_effects(console, result.effects, result.query.text, result.key.text, len(result.controls))
    for line in notes(result):
        console.print(f"  {line}", highlight=False, markup=False)
    console.print(f"\nPage: {folder / 'attention.html'}", highlight=False, markup=False, soft_wrap=True)


def table_of_heads(result: AttentionResult) -> Table:
    """Return one row for each of the highest-ranked heads and one for the rollout."""
    systems = list(reversed(result.maps))
    table = Table("Layer", "Head", *(TITLES[name] for name in systems), "Controls", "z", box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.justify = "right"
    for place in result.ranking[:MAX_HEADS]:
        shares = (format_share(result.heads[name].key_share[place]) for name in systems)
        table.add_row(*map(str, place), *shares, *format_controls(result.heads[result.primary], place))
    shares = (format_share(float(result.rollout[name].key_share)) for name in systems)
    table.add_section()
    table.add_row("rollout", "", *shares, *format_controls(result.rollout[result.primary], ()))
    return table


def notes(result: AttentionResult) -> Iterator[str]:
    """Yield the lines below the table."""
    yield f"heads: the {min(MAX_HEADS, len(result.ranking))} highest-ranked of {len(result.ranking)}"
    yield f"tokens: {format_tokens(result, result.query)} → {format_tokens(result, result.key)}"
    yield f"controls: {describe_controls(len(result.controls))}"
    sink = result.heads[result.primary].first_token_share.mean()
    yield f"first token (excluded from key and controls): {sink:.0%} of the attention on average"
    for name in reversed(result.maps):
        yield f"checks ({name}): {describe_checks(result.maps[name].checks)}"


def format_controls(statistics: AttentionStatistics, place: tuple[int, ...]) -> tuple[str, str]:
    """Return the control mean and the z-score of a head, or of the rollout; empty if there are too few controls."""
    mean, z = float(statistics.control_mean[place]), float(statistics.z_score[place])
    return ("" if math.isnan(mean) else format_share(mean)), ("" if math.isnan(z) else f"{z:.1f}")


def format_share(value: float) -> str:
    """Return a share in percent with one decimal place; a smaller one with one significant digit."""
    if value >= 0.001 or value == 0:
        return f"{value:.1%}"
    return f"{np.format_float_positional(100 * value, precision=1, fractional=False, trim='-')}%"


def format_tokens(result: AttentionResult, phrase: Phrase) -> str:
    """Return the measured tokens, which can contain more characters than the phrase."""
    return "|".join(result.token_texts[phrase.first : phrase.stop]).replace("\n", "⏎").strip()


def describe_controls(count: int) -> str:
    if count < MIN_FOR_Z:
        return f"fewer than {MIN_FOR_Z} spans of the key's length, so there is no z-score"
    return f"{count} spans of the key's length at a similar distance from the query"


def describe_checks(checks: MapChecks) -> str:
    return f"row sums within {checks.row_sum_error:.0e} of 1, logits differ by {checks.relative_logit_difference:.0e}"
