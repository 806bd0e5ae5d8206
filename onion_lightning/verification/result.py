"""The result of `verify`: as JSON, and as a section of the model card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onion_lightning.verification.comparison import STAGES, Comparison, Limits, Loss, held_out_loss
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Reading

__all__ = ["BEGIN", "END", "VERIFIED", "Verification", "add_to_card", "table_rows"]

VERIFIED = "verify.json"
BEGIN, END = "<!-- verify: begin -->", "<!-- verify: end -->"
COLUMNS = ("", "compared with", "prompts", "articles", "log p, mean", "largest", "loss", "greedy", "ended", "")


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        checkpoint: value of `--ckpt_path`.
        load_in: format of the base weights in training.
        precision: of the comparison.
        limits: largest differences that are accepted.
        probes: the held-out headlines and articles.
        readings: one for each form.
        cost: the unquantized checkpoint beside the quantized one; None if it was trained on weights that are not quantized.
        comparisons: each exported form beside the checkpoint.
        seed: of the intervals.
    """

    checkpoint: str
    load_in: str
    precision: str
    limits: Limits
    probes: list[Probe]
    readings: list[Reading]
    cost: Comparison | None
    comparisons: list[Comparison]
    seed: int

    @property
    def differing(self) -> Comparison | None:
        """The first exported form that differs."""
        return next((one for one in self.comparisons if one.stage is not None), None)

    def losses(self) -> dict[str, Loss | None]:
        """Return the held-out loss of each form."""
        return {reading.name: held_out_loss(reading, self.seed) for reading in self.readings}

    def to_json(self) -> str:
        """Return the content of verify.json."""
        content = {
            "settings": {
                "checkpoint": self.checkpoint,
                "load_in": self.load_in,
                "precision": self.precision,
                "tolerance": self.limits._asdict(),
                "headlines": [probe.headline for probe in self.probes],
            },
            "agrees": self.differing is None,
            "losses": {name: None if loss is None else loss_to_json(loss) for name, loss in self.losses().items()},
            "quantization": None if self.cost is None else to_json(self.cost) | {"stage": None},
            "forms": [to_json(one) for one in self.comparisons],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def loss_to_json(loss: Loss) -> dict[str, Any]:
    return {"nats_per_token": finite(loss.value), "interval": list(map(finite, loss.interval))}


def to_json(one: Comparison) -> dict[str, Any]:
    loss = None if one.loss is None else loss_to_json(one.loss)
    return one._asdict() | {"largest": finite(one.largest), "mean": finite(one.mean), "loss": loss}


def finite(value: float | None) -> float | None:
    """Return a number that JSON can express; None for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def table_rows(result: Verification) -> list[tuple[str, ...]]:
    """Return the rows of the table, without its header: the cost of other base weights first, then each exported form."""
    count = len(result.probes)
    rows = [] if result.cost is None else [table_row(result.cost, count, "not quantized in the export")]
    return rows + [table_row(one, count, describe(one)) for one in result.comparisons]


def describe(one: Comparison) -> str:
    return "the same" if one.stage is None else f"DIFFERS: {one.stage} ({STAGES[one.stage]})"


def table_row(one: Comparison, count: int, verdict: str) -> tuple[str, ...]:
    same = sum(at is None for at in one.diverges)
    return (
        one.form,
        one.reference,
        share(one.same_prompts, count),
        share(one.same_articles, count),
        figure(one.mean),
        figure(one.largest),
        "?"
        if one.loss is None
        else f"{one.loss.value:+.4f} ({one.loss.interval.low:+.4f} to {one.loss.interval.high:+.4f})",
        share(same, count),
        f"{one.ended:.0%}",
        verdict,
    )


def share(number: int | None, count: int) -> str:
    return "?" if number is None else f"{number} of {count}"


def figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g}"


def add_to_card(card: Path, result: Verification) -> str:
    """Return a model card with the table, in the place of an earlier one or at its end."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if rest else ""
    return (
        f"{before.rstrip()}\n\n{section(result)}\n{after.lstrip()}" if before.strip() else f"{section(result)}\n{after}"
    )


def section(result: Verification) -> str:
    lines = [
        BEGIN,
        "## Verified",
        "",
        f"{len(result.probes)} held-out articles, in {result.precision}. Differences are in nats per token: of"
        f" log-probabilities (a mean of at most {result.limits.token:g} is accepted), and of the loss (at most"
        f" {result.limits.loss:g}), with its 95% interval.",
        "",
        row(COLUMNS),
        row(["---"] * len(COLUMNS)),
        *map(row, table_rows(result)),
        END,
    ]
    return "\n".join(lines)


def row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
