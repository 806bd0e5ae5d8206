"""How many rows and tokens a run trains on: counted in the corpus if it is here, and assumed otherwise."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import try_to_load_from_cache
from transformers import PretrainedConfig

from onion_lightning.data.flags import check_length, check_split
from onion_lightning.data.limits import whole_steps
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.pretrained.known import known_config
from onion_lightning.training.session import TrainerFlags

__all__ = ["Workload", "measure_workload"]

KAGGLE = "kaggle:undefinenull/satirical-news-from-the-onion"
KAGGLE_ROWS = 6789  # of that dataset
ROW_TOKENS = 285  # median of real articles with their prompt, in tokens of Llama-2
WORD_TOKENS, PROMPT_TOKENS = 1.6, 27  # of Llama-2, for the same articles: 160 words
EPOCHS = 1000  # Lightning's, without --trainer.max_epochs and --trainer.max_steps


@dataclass(frozen=True)
class Workload:
    """What a run trains on.

    Attributes:
        rows: training rows; None if unknown.
        row_tokens: mean number of tokens of a training row, with its prompt.
        square_tokens: mean square of that number, to which the work of attention is proportional.
        longest: largest number of tokens of a row.
        global_batch: rows per optimizer step.
        micro_rows: largest number of rows in a micro-batch.
        accumulate: micro-batches of an optimizer step on each rank.
        epoch_steps: optimizer steps in an epoch; None if unknown.
        steps: optimizer steps of the run; None if unknown.
        assumptions: what was not counted, in sentences.
    """

    rows: int | None
    row_tokens: float
    square_tokens: float
    longest: int
    global_batch: int
    micro_rows: int
    accumulate: int
    epoch_steps: int | None
    steps: int | None
    assumptions: tuple[str, ...] = ()

    @property
    def step_tokens(self) -> float:
        return self.row_tokens * self.global_batch

    @property
    def epoch_tokens(self) -> float | None:
        """Tokens of an epoch, as --trainer.limit_train_batches limits it."""
        if self.rows is None or self.epoch_steps is None:
            return None
        return self.row_tokens * min(self.rows, self.epoch_steps * self.global_batch)


@dataclass(frozen=True)
class Rows:
    """The number of training rows, None if unknown; lengths of rows in tokens, of shape (rows,); and the longest."""

    count: int | None
    lengths: np.ndarray
    longest: int
    assumptions: tuple[str, ...] = ()


def measure_workload(data: OnionDataModule, config: PretrainedConfig, flags: TrainerFlags, ranks: int) -> Workload:
    """Return what a run trains on. A corpus that is not on this machine is not downloaded.

    Args:
        data: without a Trainer.
        config: of the base model.
        flags: of the Trainer.
        ranks: number of devices.

    Raises:
        OnionError: the corpus cannot be read, it has no training rows, or --data.max_length or
            --trainer.limit_train_batches is not possible.
    """
    check_length(data, config.max_position_embeddings)
    rows = training_rows(data)
    most = len(data.roles) * data.global_batch_size
    batch = most if rows.count is None else min(most, rows.count)
    accumulate = math.ceil(data.global_batch_size / (data.batch_size * ranks))
    epoch_steps = None if rows.count is None else math.ceil(rows.count / most)
    if epoch_steps is not None:
        epoch_steps = limit_steps(epoch_steps, flags.limit_train_batches, accumulate)
    steps, more = run_steps(epoch_steps, flags)
    return Workload(
        rows=rows.count,
        row_tokens=float(rows.lengths.mean()),
        square_tokens=float((rows.lengths.astype(np.float64) ** 2).mean()),
        longest=rows.longest,
        global_batch=batch,
        micro_rows=len(data.roles) * min(data.batch_size, math.ceil(data.global_batch_size / ranks)),
        accumulate=accumulate,
        epoch_steps=epoch_steps,
        steps=steps,
        assumptions=(*rows.assumptions, *more, *data.before_training),
    )


def limit_steps(steps: int, limit: int | float | None, accumulate: int) -> int:
    """Return the optimizer steps of an epoch with --trainer.limit_train_batches, as `fit` counts them."""
    if limit is None:
        return steps
    limited = whole_steps("limit_train_batches", limit, steps * accumulate, accumulate)
    return steps if isinstance(limited, float) else min(steps, limited // accumulate)


def run_steps(epoch_steps: int | None, flags: TrainerFlags) -> tuple[int | None, tuple[str, ...]]:
    """Return the optimizer steps of the run, None if unknown, and what was assumed."""
    most = flags.max_steps if flags.max_steps >= 0 else None
    epochs = flags.max_epochs if flags.max_epochs is not None and flags.max_epochs >= 0 else None
    more: tuple[str, ...] = ()
    if epochs is None and most is None:
        epochs, more = (
            EPOCHS,
            (f"{EPOCHS:,} epochs, because neither --trainer.max_epochs nor --trainer.max_steps is given",),
        )
    if epoch_steps is None or epochs is None:
        return most, more
    return min(epochs * epoch_steps, most or epochs * epoch_steps), more


def training_rows(data: OnionDataModule) -> Rows:
    """Count the tokens of the training rows, or assume how many there are."""
    if remote := list(filter(is_remote, data.paths)):
        return assumed_rows(data, remote)
    known = known_config(data.base_model) is not None
    if known and len(data.roles) == 1 and not has_tokenizer(data.base_model):
        return rows_by_words(data)
    data.encoded, data.texts, data.report = data.encode()
    check_split(data, "train")
    lengths = data.column("train", "length")
    return Rows(len(lengths), lengths, int(lengths.max()))


def is_remote(path: str) -> bool:
    from onion_lightning.data.files.locating import attached_dataset, is_hub_id  # late: see data/module.py

    return attached_dataset(path) is None if path.startswith("kaggle:") else is_hub_id(path)


def has_tokenizer(base_model: str) -> bool:
    """Return whether the tokenizer and the config of a model of the Hub are in its cache."""
    names = ("config.json", "tokenizer_config.json")
    return all(isinstance(try_to_load_from_cache(base_model, name), str | Path) for name in names)


def assumed_rows(data: OnionDataModule, remote: list[str]) -> Rows:
    tokens = min(ROW_TOKENS, data.max_length)
    assumptions = [
        f"rows of {tokens} tokens, the median of real articles in Llama-2's tokens, and a longest row of {data.max_length},"
        f" because {', '.join(remote)} {'is' if len(remote) == 1 else 'are'} not on this machine"
    ]
    count = None
    if data.paths == [KAGGLE]:
        kept = 1 - sum(data.fractions)
        count = round(KAGGLE_ROWS * kept)
        assumptions.append(f"{count:,} training rows: {kept:.0%} of {KAGGLE_ROWS:,}, none dropped")
    return Rows(count, np.array([tokens]), data.max_length, tuple(assumptions))


def rows_by_words(data: OnionDataModule) -> Rows:
    """Estimate tokens from words, where the tokenizer of a Llama-2 model is not on this machine."""
    from onion_lightning.data.corpus import load_corpus
    from onion_lightning.data.files.cache import writing_cache

    with writing_cache():
        corpus = load_corpus(data.paths, data.columns, data.cleaning, data.filters, *data.fractions)
    words = np.array([len(article.split()) for article in texts(corpus.splits["train"])])
    if not len(words):
        raise OnionError(f"--data.path {data.path}: leaves no train rows; give smaller fractions, or more rows.")
    lengths = np.minimum(np.ceil(PROMPT_TOKENS + WORD_TOKENS * words).astype(int), data.max_length)
    why = f"because the tokenizer of {data.base_model} is not on this machine"
    assumption = f"{WORD_TOKENS} tokens a word and {PROMPT_TOKENS} for the prompt, {why}"
    return Rows(len(words), lengths, int(lengths.max()), (assumption,))


def texts(rows: Any) -> Iterable[str]:
    for batch in rows.iter(1000):
        yield from batch["article"]
