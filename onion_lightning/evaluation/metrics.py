"""Computes the metrics of an evaluation from its samples: means per system, intervals and paired differences."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onion_lightning.evaluation.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap_interval,
    paired_difference,
    per_unit,
)
from onion_lightning.evaluation.samples import Sample
from onion_lightning.evaluation.style import STYLE, style_distance
from onion_lightning.evaluation.tasks import BEST_OF

__all__ = ["EvaluationMetrics", "EvaluationSettings", "SystemMetrics", "compute_metrics"]

MEANS = (
    "eos_rate",
    "cut_rate",
    "loop_rate",
    "words",
    "headline_recall",
    "headline_top_1",
    "headline_mrr",
    "copied_rate",
    "seconds",
)


@dataclass(frozen=True)
class EvaluationSettings:
    """What was evaluated, and how.

    Attributes:
        headlines: number of evaluated headlines.
        n: value of `--count`; None by default.
        shots: value of `--shots`.
        shots_least: smallest number of examples in a few-shot prompt, where fewer than `shots` fit.
        seed: seed of the model, which generation depends on.
        batch_size: number of headlines per batch.
        best_of: value of `--best_of`.
        also: checkpoint of each other fine-tuned model, by the name of its system.
    """

    headlines: int
    n: int | None
    shots: int
    shots_least: int
    base_model: str
    load_in: str
    checkpoint: str
    seed: int
    corpus: str
    batch_size: int
    max_new_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float
    best_of: int = 1
    also: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemMetrics:
    """The metrics of one system by key, and the intervals of those that have one."""

    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class EvaluationMetrics:
    """All metrics of an evaluation: the content of `metrics.json`.

    Attributes:
        settings: what was evaluated, and how.
        systems: metrics by system, "real" included.
        paired: loss differences, `tuned_minus_base`, `tuned_minus_few_shot` and, for other models, `NAME_minus_tuned`; and
            `best_of_minus_tuned`, the difference of the mean reciprocal ranks of headlines.
    """

    settings: EvaluationSettings
    systems: dict[str, SystemMetrics]
    paired: dict[str, PairedDifference]

    def to_json(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "systems": {name: system.values for name, system in self.systems.items()},
            "intervals": {name: system.intervals for name, system in self.systems.items()},
            "paired": {name: asdict(difference) for name, difference in self.paired.items()},
        }


def compute_metrics(samples: Sequence[Sample], settings: EvaluationSettings, seed: int) -> EvaluationMetrics:
    """Compute the metrics of all systems.

    Loss is in nats per token, over all tokens of all articles; bits per byte are comparable between tokenizers; other
    metrics are means over articles. Intervals are 95% bootstrap intervals over headlines.

    Args:
        samples: the measured articles of each headline.
        settings: reported along with the metrics.
        seed: seed of the bootstrap.
    """
    tokens, sizes = np.array([sample.tokens for sample in samples]), np.array([sample.bytes for sample in samples])
    columns = {name: columns_of(samples, name) for name in samples[0].systems}
    real_style = {name: float(np.mean(columns["real"][name])) for name in STYLE}
    systems = {name: system_metrics(column, real_style, tokens, sizes, seed) for name, column in columns.items()}
    tuned = columns["tuned"]["loss"]
    paired = {
        f"tuned_minus_{other}": paired_difference(tuned, columns[other]["loss"], tokens, seed)
        for other in ("base", "few_shot")
    }
    paired |= {
        f"{name}_minus_tuned": paired_difference(columns[name]["loss"], tuned, tokens, seed) for name in settings.also
    }
    if BEST_OF in columns:
        first, second = (columns[name]["headline_mrr"] for name in (BEST_OF, "tuned"))
        paired["best_of_minus_tuned"] = paired_difference(first, second, np.ones(len(samples)), seed)
    return EvaluationMetrics(settings, systems, paired)


def columns_of(samples: Sequence[Sample], system: str) -> dict[str, np.ndarray]:
    """Return the numeric measures of one system by key, each (headlines,)."""
    articles = [sample.systems[system].to_json() for sample in samples]
    numeric = [key for key, value in articles[0].items() if not isinstance(value, str)]
    return {key: np.array([article[key] for article in articles], dtype=float) for key in numeric}


def system_metrics(
    columns: dict[str, np.ndarray], real_style: dict[str, float], tokens: np.ndarray, sizes: np.ndarray, seed: int
) -> SystemMetrics:
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    if "loss" in columns:
        values, intervals = likelihood_metrics(columns["loss"], tokens, sizes, seed)
    for key in (*MEANS, *STYLE):
        if key in columns:
            values[key] = float(np.mean(columns[key]))
            intervals[key] = bootstrap_interval([columns[key]], np.mean, seed)
    values |= {f"words_{q}": float(np.quantile(columns["words"], q / 100)) for q in (25, 50, 75)}
    values |= {"longest_copy": int(max(columns["copied_words"])), "style_distance": style_distance(values, real_style)}
    return SystemMetrics(values, intervals)


def likelihood_metrics(
    losses: np.ndarray, tokens: np.ndarray, sizes: np.ndarray, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return loss per token, perplexity and bits per byte, and their intervals."""
    bits = losses / math.log(2)
    loss, loss_interval = float(per_unit(losses, tokens)), bootstrap_interval([losses, tokens], per_unit, seed)
    values = {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": float(per_unit(bits, sizes))}
    intervals = {
        "loss": loss_interval,
        "perplexity": Interval(*map(math.exp, loss_interval)),
        "bits_per_byte": bootstrap_interval([bits, sizes], per_unit, seed),
    }
    return values, intervals
