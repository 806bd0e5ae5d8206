"""Held-out headlines and articles that every form of a model reads."""

import random
from typing import NamedTuple

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, check_range

__all__ = ["Probe", "choose_probes"]

MIN_PROBES, MAX_PROBES = 2, 1000  # an interval needs two


class Probe(NamedTuple):
    """A held-out headline and its article.

    Attributes:
        headline: on one line.
        article: its text.
        prompt: token ids of the prompt, as in training.
        completion: token ids of the article, as in training: cut to `--data.max_length`, with EOS unless they were cut.
    """

    headline: str
    article: str
    prompt: list[int]
    completion: list[int]


def choose_probes(data: OnionDataModule, count: int) -> list[Probe]:
    """Return held-out rows in an order that depends on the seed: of the test split, or of validation if it is empty.

    Args:
        data: without a Trainer.
        count: number of rows; fewer if the split is smaller.

    Raises:
        OnionError: the number is out of range, the corpus cannot be read, or both splits are empty.
    """
    check_range("--count", count, MIN_PROBES <= count <= MAX_PROBES, f"from {MIN_PROBES} to {MAX_PROBES}")
    data.encoded, data.texts, data.report = data.encode()
    split = next((name for name in ("test", "validation") if len(data.encoded[name])), None)
    if split is None:
        raise OnionError(
            "--data.test_fraction 0: verify needs held-out rows, and neither the test nor the validation split has any; give"
            " a fraction, or another --data.path."
        )
    available = len(data.encoded[split])
    if available < MIN_PROBES:
        raise OnionError(f"--data.test_fraction: verify needs {MIN_PROBES} held-out rows, and there is one; give more.")
    chosen = sorted(random.Random(data.seed).sample(range(available), min(count, available)))
    return [make_probe(data, split, at) for at in chosen]


def make_probe(data: OnionDataModule, split: str, at: int) -> Probe:
    text, encoded = data.texts[split][at], data.encoded[split][at]
    ids, cut = encoded["input_ids"], encoded["prompt_length"]
    return Probe(" ".join(text["headline"].split()), text["article"], ids[:cut], ids[cut:])
