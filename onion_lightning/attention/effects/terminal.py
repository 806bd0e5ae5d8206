"""Prints the effects of interventions on the terminal: a table for each model, and one sentence in words."""

from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from onion_lightning.attention.effects.result import Comparison, SystemEffects
from onion_lightning.attention.effects.words import finding, format_controls, format_nats, notes

__all__ = ["show_effects"]

COLUMNS = ("Intervention on the key", "Query", "Controls", "p", "Following", "KL")


def show_effects(console: Console, systems: Mapping[str, SystemEffects], query: str, key: str, controls: int) -> None:
    """Print the effects of each model, the tuned one first.

    Args:
        console: of standard error.
        systems: effects by system.
        query: text of the query.
        key: text of the key.
        controls: number of control spans.
    """
    for name, effects in reversed(list(systems.items())):
        console.print(
            f"  {name.title()} model: nats by which an intervention makes “{query}” less likely", markup=False
        )
        console.print(table_of_effects(effects))
        for line in (finding(effects, query, key), *notes(effects, controls)):
            console.print(f"  {line}", highlight=False, markup=False)
        console.print()


def table_of_effects(effects: SystemEffects) -> Table:
    """Return one row for each intervention."""
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, one in interventions(effects):
        following = "" if one.following is None else format_nats(one.following.value)
        p = "" if one.query.p is None else f"{one.query.p:.2g}"
        divergence = format_nats(one.divergence.value)
        table.add_row(name, format_nats(one.query.value), format_controls(one.query), p, following, divergence)
    return table


def interventions(effects: SystemEffects) -> Iterator[tuple[str, Comparison]]:
    """Yield the name and the effect of each row of the table."""
    yield "cut in all layers", effects.knockout
    window = effects.strongest_window
    yield f"cut in layers {window.first} to {window.last}", window.effect
    for layer, head, one in effects.top_heads:
        yield f"cut in layer {layer}, head {head}", one
    yield "values zeroed", effects.values
    if effects.replacement is not None:
        yield f"replaced ({len(effects.phrases)} phrases)", effects.replacement
    if last := effects.last_restoring:
        yield f"restored before layer {last.first}", last.effect
