"""Compares what two forms of a model make of the same probes, and finds the first stage in which they differ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onion_lightning.evaluation.bootstrap import Interval, bootstrap_interval, paired_difference, per_unit
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Encoded, Reading

__all__ = ["STAGES", "Comparison", "Limits", "Loss", "compare", "held_out_loss"]

# In the order in which a model uses them: the first that differs explains the others.
STAGES = {
    "template": "the prompt is another text",
    "tokenizer": "texts have other token ids",
    "weights": "tokens have other probabilities",
}


class Limits(NamedTuple):
    """Largest differences in nats of forms that are the same: of the held-out loss, and of log p of a token on average."""

    loss: float
    token: float


class Loss(NamedTuple):
    """A loss in nats per token, and its 95% interval over articles."""

    value: float
    interval: Interval


class Comparison(NamedTuple):
    """A form of a model beside another.

    Attributes:
        form: name of the form.
        reference: name of the form that it should agree with.
        same_prompts: number of probes whose prompt ids, with BOS, are equal; None if unknown.
        same_articles: number of probes whose article ids are equal; None if unknown.
        same_chats: number of probes whose prompt ids come out of the chat template as well; None without one.
        largest: largest difference of a token's log-probability, in nats; None if unknown.
        mean: mean of the absolute differences.
        loss: difference of the held-out loss, and its paired interval.
        diverges: for each probe, the character of the greedy article after which the texts differ; None if they are equal.
        ended: share of greedy articles that the model ended.
        adapters: number of adapter weights that differ from those of the checkpoint; None if there are none to compare.
        stage: the first of `STAGES` that differs; None if all agree within the limits.
    """

    form: str
    reference: str
    same_prompts: int | None
    same_articles: int | None
    same_chats: int | None
    largest: float | None
    mean: float | None
    loss: Loss | None
    diverges: list[int | None]
    ended: float
    adapters: int | None
    stage: str | None


def compare(
    reading: Reading,
    reference: Reading,
    probes: Sequence[Probe],
    limits: Limits,
    seed: int,
    adapters: int | None = None,
) -> Comparison:
    """Compare a form with another that should agree with it.

    Args:
        reading: of the form.
        reference: of the other.
        probes: that both have read.
        limits: what rounding alone explains.
        seed: of the bootstrap.
        adapters: number of adapter weights that differ from those of the checkpoint.
    """
    prompts = [count_equal(one.prompt, probe.prompt) for one, probe in zip(reading.encoded, probes, strict=True)]
    articles = [count_equal(one.article, other.article) for one, other in pairs(reading, reference)]
    chats = [count_equal(one.chat, probe.prompt) for one, probe in zip(reading.encoded, probes, strict=True)]
    largest, mean = differences(reading, reference)
    loss = loss_difference(reading, reference, seed)
    return Comparison(
        reading.name,
        reference.name,
        total(prompts),
        total(articles),
        total(chats),
        largest,
        mean,
        loss,
        [divergence(one.text, other.text) for one, other in zip(reading.written, reference.written, strict=True)],
        sum(article.ended for article in reading.written) / len(probes),
        adapters,
        first_stage(reading.encoded, probes, articles, bool(adapters) or beyond(limits, mean, loss)),
    )


def pairs(reading: Reading, reference: Reading) -> list[tuple[Encoded, Encoded]]:
    return list(zip(reading.encoded, reference.encoded, strict=True))


def count_equal(found: list[int] | None, expected: list[int] | None) -> int | None:
    return None if found is None or expected is None else int(found == expected)


def total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def first_stage(
    encoded: Sequence[Encoded],
    probes: Sequence[Probe],
    articles: Sequence[int | None],
    other_weights: bool,
) -> str | None:
    """Return the first of `STAGES` that differs; None if none does."""
    for one, probe in zip(encoded, probes, strict=True):
        if one.same_template not in (None, probe.prompt):
            return "tokenizer"  # of the same text
        if one.prompt not in (None, probe.prompt) or one.chat not in (None, probe.prompt):
            return "template"
    if 0 in articles:
        return "tokenizer"
    return "weights" if other_weights else None


def beyond(limits: Limits, mean: float | None, loss: Loss | None) -> bool:
    """Return whether probabilities differ by more than the limits, or are not numbers."""
    if mean is None or loss is None:
        return False
    return not (mean <= limits.token and abs(loss.value) <= limits.loss)


def differences(reading: Reading, reference: Reading) -> tuple[float | None, float | None]:
    """Return the largest and the mean absolute difference of log-probabilities over all tokens."""
    if reading.log_probabilities is None or reference.log_probabilities is None:
        return None, None
    gaps = np.abs(np.concatenate(reading.log_probabilities) - np.concatenate(reference.log_probabilities))
    return float(gaps.max()), float(gaps.mean())


def loss_difference(reading: Reading, reference: Reading, seed: int) -> Loss | None:
    if reading.log_probabilities is None or reference.log_probabilities is None:
        return None
    first, second = (
        [-values.sum() for values in one] for one in (reading.log_probabilities, reference.log_probabilities)
    )
    if not np.isfinite([first, second]).all():
        return Loss(math.nan, Interval(math.nan, math.nan))
    found = paired_difference(first, second, token_counts(reading), seed)
    return Loss(found.difference, found.interval)


def held_out_loss(reading: Reading, seed: int) -> Loss | None:
    """Return the loss of a form on all probes."""
    if reading.log_probabilities is None:
        return None
    losses, tokens = [-values.sum() for values in reading.log_probabilities], token_counts(reading)
    if not np.isfinite(losses).all():
        return Loss(math.nan, Interval(math.nan, math.nan))
    return Loss(float(per_unit(losses, tokens)), bootstrap_interval([losses, tokens], per_unit, seed))


def token_counts(reading: Reading) -> list[int]:
    return [len(values) for values in reading.log_probabilities or []]


def divergence(one: str, other: str) -> int | None:
    """Return the number of characters that both texts begin with; None if they are equal."""
    if one == other:
        return None
    equal = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        equal += 1
    return equal
