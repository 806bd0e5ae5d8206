"""Encodes preference pairs like training examples: two rows for each pair, the chosen article first."""

from collections import Counter as Counts
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from onion_lightning.data.cleaning.headlines import headline_key
from onion_lightning.data.corpus import SPLITS, assign_splits, column_values
from onion_lightning.data.encoding import CorpusReport, Encoded, count_tokens, encode_batch
from onion_lightning.data.preferences.reading import Preferences
from onion_lightning.data.prompt import Overflow
from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Counter
from onion_lightning.seeding import hash64

__all__ = ["encode_pairs"]


def encode_pairs(
    found: Preferences,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    overflow: Overflow,
    fractions: tuple[float, float],
    path: str,
) -> Encoded:
    """Split and tokenize pairs. All pairs of a headline are in one split: that of the headline in a corpus of articles.

    Args:
        found: the pairs.
        tokenizer: of the base model.
        max_length: tokens of a prompt and an article with EOS, at most.
        overflow: what to do with longer ones.
        fractions: of headlines in the validation and in the test split.
        path: the file, for messages.

    Returns:
        For each split the rows, of which 2i and 2i + 1 are the chosen and the rejected article of pair i; `read`, `kept`,
        `dropped` and `splits` in the report count pairs.

    Raises:
        OnionError: no pair remains.
    """
    batch: dict[str, list[Any]] = {
        "headline": [pair.headline for pair in found.pairs for _ in range(2)],
        "article": [article for pair in found.pairs for article in (pair.chosen, pair.rejected)],
        "whole": [True] * 2 * len(found.pairs),
    }
    counter = Counter("tokenizing", len(batch["article"]))
    ids = datasets.Dataset(encode_batch(batch, tokenizer, max_length, overflow, counter))
    reasons = [find_reason(chosen, rejected) for chosen, rejected in zip(*halves(ids["input_ids"]), strict=True)]
    dropped = {reason: count + Counts(reasons)[reason] for reason, count in found.dropped.items()}
    kept = np.flatnonzero([reason == "" for reason in reasons])
    if not len(kept):
        why = ", ".join(f"{count} {name}" for name, count in dropped.items() if count)
        raise OnionError(
            f"--data.pairs {path}: no pairs remain (read: {found.read}; dropped: {why or 'none'}); vote on more articles, or"
            f" check --data.max_length {max_length}."
        )
    keys = np.array([hash64(headline_key(found.pairs[pair].headline)) for pair in kept])
    rows = {split: articles_of(kept[at]) for split, at in assign_splits(keys, *fractions).items()}
    texts = datasets.Dataset.from_dict(batch)
    both = np.concatenate([rows[split] for split in SPLITS])
    full, length = column_values(ids, "full_length")[both], column_values(ids, "length")[both]
    report = CorpusReport(
        read=found.read,
        kept=len(kept),
        dropped=dropped,
        cleaned={},
        misread={},
        cut=int((full > length).sum()),
        splits={split: len(at) // 2 for split, at in rows.items()},
        tokens=count_tokens(full),
    )
    return Encoded(
        {s: ids.select(at) for s, at in rows.items()}, {s: texts.select(at) for s, at in rows.items()}, report
    )


def halves(rows: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the rows of the chosen and of the rejected articles."""
    return rows[0::2], rows[1::2]


def articles_of(pairs: np.ndarray) -> np.ndarray:
    """Return the rows of the articles of pairs, (2 * pairs,)."""
    return np.stack([2 * pairs, 2 * pairs + 1], axis=1).flatten()


def find_reason(chosen: list[int], rejected: list[int]) -> str:
    """Return why a pair is left out once it is tokenized, or ""."""
    if not chosen or not rejected:
        return "too_long"
    return "identical" if chosen == rejected else ""
