"""Builds the tasks of an evaluation: test headlines with few-shot examples, batched and distributed over ranks."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.model.writing.copying import CopyIndex
from onion_lightning.ranks import together

__all__ = [
    "BEST_OF",
    "DEFAULT_N",
    "SYSTEMS",
    "EvaluationData",
    "Row",
    "ScoredArticle",
    "Task",
    "TaskData",
    "choose_examples",
    "few_shot_prompt",
    "fit_shots",
    "whole_examples",
]

# The base model without adapters; the same with training examples in the prompt; the base model with adapters.
SYSTEMS = ("base", "few_shot", "tuned")
BEST_OF = "best_of"  # the tuned model, with the best of several articles
DEFAULT_N = 32  # headlines


class Row(NamedTuple):  # Lightning does not accept frozen dataclasses in a batch
    """A test headline.

    Attributes:
        position: position among the evaluated headlines.
        headline: text of the headline.
        article: full text of the real article.
        prompt: token ids of the prompt.
        completion: token ids of the real article, as scored by `test`; ends with EOS unless the article was cut.
        shots: token ids that precede the prompt of `few_shot`, starting with BOS.
        shot_count: number of examples in `shots`.
    """

    position: int
    headline: str
    article: str
    prompt: list[int]
    completion: list[int]
    shots: list[int]
    shot_count: int


class Task(NamedTuple):
    """One system and a batch of rows: the unit of work of a rank."""

    system: str
    rows: list[Row]


@dataclass(frozen=True)
class ScoredArticle:
    """An article of one system, or the real one.

    Attributes:
        position: position of its row.
        system: one of `SYSTEMS`, or "real".
        text: the article.
        rank: rank of its own headline among all headlines, from 1 (most likely).
        loss: -log p in nats of the real article under the system, summed over tokens; None for the real article, and for
            the best of several articles, because the model that wrote them has one already.
        tokens: number of generated tokens; None for the real article.
        finish_reason: "eos" or "length"; None for the real article.
        seconds: that writing took, where it is compared.
    """

    position: int
    system: str
    text: str
    rank: int
    loss: float | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    seconds: float | None = None


class TaskData(pl.LightningDataModule):
    """Distributes tasks on the rows of a data module over the ranks.

    Args:
        datamodule: data module of the corpus.
    """

    stage = "test"  # what the data module checks its splits for
    idle: Any = Task("base", [])  # a task without rows

    def __init__(self, datamodule: OnionDataModule) -> None:
        super().__init__()
        self.datamodule = datamodule

    def prepare_data(self) -> None:
        assert self.trainer is not None
        self.datamodule.fill_cache(self.trainer.is_global_zero)

    def setup(self, stage: str) -> None:
        """Load the corpus and choose the rows.

        Raises:
            OnionError: a split is too small.
        """
        self.datamodule.trainer = self.trainer
        self.datamodule.setup(self.stage)
        with together():
            self.choose_rows(self.datamodule)

    def choose_rows(self, data: OnionDataModule) -> None:
        raise NotImplementedError

    def identity(self) -> dict[str, str]:
        """Return what must be the same on all ranks."""
        return self.datamodule.identity()

    def tasks(self) -> list[Any]:
        """Return the tasks; those of a rank are computed in this order."""
        raise NotImplementedError

    def predict_dataloader(self) -> DataLoader:
        trainer = self.trainer
        assert trainer is not None
        # Whole tasks are distributed, so that the batch of a row, and with it the row's results, does not depend on the
        # number of ranks. Empty tasks give all ranks as many, because ranks that share weights enter each step together.
        tasks = self.tasks()
        tasks += [self.idle] * (-len(tasks) % trainer.world_size)
        own: Any = tasks[trainer.global_rank :: trainer.world_size]
        return DataLoader(own, batch_size=None, collate_fn=lambda task: task)


class EvaluationData(TaskData):
    """Builds the tasks from the test split of a data module.

    Args:
        datamodule: data module of the corpus.
        shots: number of examples before each `few_shot` prompt.
        n: number of test headlines; None for 32, or all of them if there are fewer.
        batch_size: number of headlines per task.
        new_tokens: number of tokens to reserve in the context for generation.
        best_of: number of articles of which the system `best_of` keeps one; 1 for no such system.
        others: names of further systems, other fine-tuned models.
    """

    def __init__(
        self,
        datamodule: OnionDataModule,
        shots: int,
        n: int | None,
        batch_size: int,
        new_tokens: int,
        best_of: int = 1,
        others: Sequence[str] = (),
    ) -> None:
        super().__init__(datamodule)
        self.shots = shots
        self.n = n
        self.batch_size = batch_size
        self.new_tokens = new_tokens
        self.best_of = best_of
        self.systems = (*SYSTEMS, *([BEST_OF] if best_of > 1 else []), *others)
        self.rows: list[Row] = []

    @cached_property
    def copies(self) -> CopyIndex:
        """An index of the training articles, to find copies."""
        train = self.datamodule.texts["train"]
        return CopyIndex(train["headline"], train["article"])

    def choose_rows(self, data: OnionDataModule) -> None:
        """Sample the test headlines and the few-shot examples."""
        available = len(data.encoded["test"])
        self.check_size(available)
        count = min(self.n or DEFAULT_N, available)
        chosen = sorted(random.Random(data.seed).sample(range(available), count))
        examples, context = choose_examples(data, self.shots), data.context
        self.rows = [self.make_row(position, at, examples, context) for position, at in enumerate(chosen)]

    def check_size(self, available: int) -> None:
        if available < 2:
            raise OnionError(
                f"--data.test_fraction {self.datamodule.fractions[1]}: evaluate needs at least 2 test headlines,"
                f" and the split has {available}; train with a larger fraction, or use a larger corpus."
            )
        if self.n is not None and available < self.n:
            raise OnionError(
                f"--count {self.n}: the test split has {available} headlines; give --count {available} or less."
            )

    def make_row(self, position: int, at: int, examples: list[list[int]], context: int) -> Row:
        text, encoded = self.datamodule.texts["test"][at], self.datamodule.encoded["test"][at]
        ids, cut = encoded["input_ids"], encoded["prompt_length"]
        room = context - cut - max(self.new_tokens, len(ids) - cut)
        shots, count = fit_shots(examples, room, self.datamodule.tokenizer.bos_token_id)
        return Row(position, text["headline"], text["article"], ids[:cut], ids[cut:], shots, count)

    def tasks(self) -> list[Task]:
        by_length = sorted(self.rows, key=lambda row: (len(row.completion), row.position))
        batches = [by_length[at : at + self.batch_size] for at in range(0, len(by_length), self.batch_size)]
        return [Task(system, batch) for system in self.systems for batch in batches]


def choose_examples(datamodule: OnionDataModule, shots: int) -> list[list[int]]:
    """Sample the token ids of the training examples for `few_shot`, the same ones for every headline.

    Examples that were cut are skipped: without EOS they would show the model articles that do not end.

    Args:
        datamodule: with its corpus encoded.
        shots: number of examples.

    Raises:
        OnionError: there are fewer.
    """
    train, limit, whole = datamodule.encoded["train"], datamodule.max_length, whole_examples(datamodule)
    if shots > len(whole):
        raise OnionError(
            f"--shots {shots}: only {len(whole)} training examples fit in --data.max_length {limit} without being cut; use"
            " fewer shots."
        )
    chosen = random.Random(datamodule.seed + 1).sample(whole, shots)
    return [train[at]["input_ids"] for at in chosen]


def whole_examples(datamodule: OnionDataModule) -> list[int]:
    """Return the positions of the training examples that were not cut."""
    train = datamodule.encoded["train"]
    lengths = zip(train["length"], train["full_length"], strict=True)
    return [at for at, (length, full_length) in enumerate(lengths) if length == full_length]


def few_shot_prompt(shots: list[int], prompt: list[int], bos: int | None) -> list[int]:
    """Return a prompt after its examples, with BOS at the very beginning only."""
    return shots + (prompt[1:] if shots and prompt[0] == bos else prompt)


def fit_shots(examples: Sequence[list[int]], room: int, bos: int | None) -> tuple[list[int], int]:
    """Concatenate as many whole examples as fit, in order; an example that does not fit is skipped.

    Args:
        examples: token ids.
        room: maximum number of tokens.
        bos: id of the BOS token, which is kept only at the very beginning.

    Returns:
        The token ids, and the number of examples in them.
    """
    ids: list[int] = []
    count = 0
    for example in examples:
        body = example[1:] if ids and example[0] == bos else example
        if len(ids) + len(body) <= room:
            ids, count = ids + body, count + 1
    return ids, count
