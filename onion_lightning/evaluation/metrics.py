"""From the records of an evaluation to its figures: each system's means, their intervals, and paired differences."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from onion_lightning.evaluation.copying import CopyIndex
from onion_lightning.evaluation.evaluator import SYSTEMS, Row
from onion_lightning.evaluation.likelihood import interval, paired_difference, per_unit
from onion_lightning.evaluation.style import STYLE, distance, measure_text

__all__ = ["COPIED", "compare", "describe"]

COPIED = 12  # words: a longer verbatim run is flagged

MEANS = (
    "eos_rate",
    "cut_rate",
    "loop_rate",
    "words",
    "headline_recall",
    "headline_top_1",
    "headline_mrr",
    "copied_rate",
)


def describe(
    records: Sequence[dict[str, Any]], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, index: CopyIndex
) -> list[dict[str, Any]]:
    """Everything about each headline: the systems' articles and the real one, with all measures of each.

    Args:
        records: of `Evaluation`, in any order.
        rows: the test headlines.
        tokenizer: the base model's.
        index: of the training articles.
    """
    found = {(record["index"], record["system"]): record for record in records}
    samples: list[dict[str, Any]] = []
    for row in rows:
        scored = tokenizer.decode(row.completion, skip_special_tokens=True)
        sample: dict[str, Any] = {
            "headline": row.headline,
            "tokens": len(row.completion),
            "bytes": len(scored.encode()),
        }
        sample |= {"shots": row.shot_count, "systems": {}}
        for system in (*SYSTEMS, "real"):
            sample["systems"][system] = describe_article(row.headline, found[row.place, system], index)
        samples.append(sample)
    return samples


def describe_article(headline: str, record: dict[str, Any], index: CopyIndex) -> dict[str, Any]:
    copied = index.longest(record["text"])
    found = {"article": record["text"], "headline_rank": record["rank"]} | measure_text(headline, record["text"])
    found |= {"headline_top_1": record["rank"] == 1, "headline_mrr": 1 / record["rank"]}
    found |= {"copied_words": copied.words, "copied_from": copied.headline, "copied_rate": copied.words >= COPIED}
    if "loss" in record:
        found |= {"loss": record["loss"], "new_tokens": record["tokens"]}
        found |= {"eos_rate": record["finish_reason"] == "eos", "cut_rate": record["finish_reason"] == "length"}
    return found


def compare(samples: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The figures of an evaluation, with stable keys: `systems`, `intervals` and `paired`.

    Loss is in nats per token, over all tokens of all articles; bits per byte are comparable between tokenizers; means
    are over articles. Intervals are 95% bootstrap intervals over headlines.
    """
    columns = {name: column(samples, name) for name in (*SYSTEMS, "real")}
    tokens, sizes = (np.array([sample[name] for sample in samples]) for name in ("tokens", "bytes"))
    systems: dict[str, dict[str, Any]] = {}
    intervals: dict[str, dict[str, Any]] = {}
    for name, values in columns.items():
        systems[name], intervals[name] = (
            likelihoods(values["loss"], tokens, sizes, seed) if name != "real" else ({}, {})
        )
        for metric in (*MEANS, *STYLE):
            if metric in values:
                systems[name][metric] = float(np.mean(values[metric]))
                intervals[name][metric] = interval([values[metric]], np.mean, seed)
        systems[name] |= spread(values["words"])
        systems[name] |= {"longest_copy": int(max(values["copied_words"]))}
    for card in systems.values():
        card["style_distance"] = distance(card, systems["real"])
    losses = {name: columns[name]["loss"] for name in SYSTEMS}
    paired = {
        f"tuned_minus_{other}": paired_difference(losses["tuned"], losses[other], tokens, seed)
        for other in ("base", "few_shot")
    }
    return {"systems": systems, "intervals": intervals, "paired": paired}


def column(samples: Sequence[dict[str, Any]], system: str) -> dict[str, np.ndarray]:
    """The numbers of one system, each (headlines,)."""
    of_system = [sample["systems"][system] for sample in samples]
    numbers = [name for name, value in of_system[0].items() if not isinstance(value, str)]
    return {name: np.array([one[name] for one in of_system], dtype=float) for name in numbers}


def likelihoods(
    losses: np.ndarray, tokens: np.ndarray, sizes: np.ndarray, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Loss per token, perplexity and bits per byte, and their intervals."""
    loss, bits = per_unit(losses, tokens), per_unit(losses / math.log(2), sizes)
    of_loss = interval([losses, tokens], per_unit, seed)
    values = {"loss": float(loss), "perplexity": math.exp(loss), "bits_per_byte": float(bits)}
    of_perplexity = [math.exp(end) for end in of_loss]
    of_bits = interval([losses / math.log(2), sizes], per_unit, seed)
    return values, {"loss": of_loss, "perplexity": of_perplexity, "bits_per_byte": of_bits}


def spread(words: np.ndarray) -> dict[str, float]:
    """Quartiles of the lengths in words."""
    return {f"words_{q}": float(np.quantile(words, q / 100)) for q in (25, 50, 75)}
