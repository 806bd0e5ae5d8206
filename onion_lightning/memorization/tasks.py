"""Chooses training and held-out articles, and builds the tasks of a memorization test, batched and distributed over ranks."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from onion_lightning.data.duplicates import near_duplicates
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.evaluation.tasks import TaskData
from onion_lightning.memorization.journal import Journal
from onion_lightning.messages import tell
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.ranks import gather

__all__ = ["DECODINGS", "DEFAULT_N", "PREFIXES", "SPAN", "WAYS", "MemorizationData", "Probe", "Row", "trained_rows"]

DECODINGS = {"tuned": ("greedy", "run"), "base": ("greedy",)}  # the second is that of the decoding flags
PREFIXES = (0, 20, 50)  # tokens of the article that follow the headline in the prompt
SPAN = 50  # tokens that the model continues, as in Carlini et al. 2022
WAYS = [(system, one, prefix) for system, names in DECODINGS.items() for one in names for prefix in PREFIXES]
DEFAULT_N = 100  # training articles


class Row(NamedTuple):
    """An article.

    Attributes:
        position: position among the articles of the test.
        headline: text of the headline.
        group: "once" or "repeated" for a training article without and with near-duplicates among them, or "held_out".
        prompt: token ids of the prompt.
        completion: token ids of the article, as in training.
        body: those without EOS.
    """

    position: int
    headline: str
    group: str
    prompt: list[int]
    completion: list[int]
    body: list[int]


class Probe(NamedTuple):
    """A task: one system scores a batch of articles, or continues their beginnings.

    Attributes:
        number: position among the tasks; -1 without rows.
        system: tuned or base.
        rows: the articles.
        decoding: one of `DECODINGS` of the system; "" to score.
        prefix: one of `PREFIXES`.
    """

    number: int
    system: str
    rows: list[Row]
    decoding: str = ""
    prefix: int = 0


class MemorizationData(TaskData):
    """Builds the tasks from a data module. After `setup`, `values` contains the results of an interrupted test.

    Args:
        datamodule: data module of the corpus.
        checkpoint: content of the checkpoint.
        count: number of training articles, and the maximum number of held-out ones; None for 100, or all if there are fewer.
        batch_size: number of articles per task.
        journal: keeps the results of the tasks.
    """

    stage = "rows"
    idle = Probe(-1, "base", [])

    def __init__(
        self,
        datamodule: OnionDataModule,
        checkpoint: dict[str, Any],
        count: int | None,
        batch_size: int,
        journal: Journal,
    ) -> None:
        super().__init__(datamodule)
        self.checkpoint = checkpoint
        self.count = count
        self.batch_size = batch_size
        self.journal = journal
        self.rows: list[Row] = []
        self.unseen: int | None = None  # training rows that the run has not seen; None if that is not known
        self.values: dict[int, list[Any]] = {}  # a loss or token ids for each row, by the number of the task

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.journal.begin((self.datamodule.identity(), self.count, self.batch_size))
        for found in gather(self.journal.read()):
            self.values |= found
        if self.values:
            tell(f"Continuing: {len(self.values)} of {len(self.probes())} tasks are in {self.journal.folder} already.")

    def choose_rows(self, data: OnionDataModule) -> None:
        """Sample the articles: of the training articles with near-duplicates, at most as many as half of all."""
        seen = trained_rows(data, self.checkpoint)
        size = len(data.encoded["train"])
        self.unseen = None if seen is None else size - len(seen)
        train = list(range(size)) if seen is None else seen.tolist()
        held_out = [(split, at) for split in ("validation", "test") for at in range(len(data.encoded[split]))]
        self.check_sizes(len(train), len(held_out))
        count = min(self.count or DEFAULT_N, len(train))
        repeated = sorted(set(train) & repeated_rows(data))
        once = sorted(set(train) - set(repeated))
        most = max(min(len(repeated), count // 2), count - len(once))
        draw = random.Random(data.seed).sample
        chosen = [("once", "train", at) for at in sorted(draw(once, count - most))]
        chosen += [("repeated", "train", at) for at in sorted(draw(repeated, most))]
        others = draw(held_out, min(self.count or DEFAULT_N, len(held_out)))
        chosen += [("held_out", split, at) for split, at in sorted(others)]
        self.rows = [self.make_row(position, *one) for position, one in enumerate(chosen)]

    def check_sizes(self, train: int, held_out: int) -> None:
        if held_out < 2 or train < 2:
            few, flag = ("held-out", "larger") if held_out < 2 else ("training", "smaller")
            raise OnionError(
                f"--data.val_fraction {self.datamodule.fractions[0]}: memorize compares training articles with held-out ones"
                f" and needs at least 2 {few} articles, but there are {min(train, held_out)}; train with a {flag} fraction,"
                " or use a larger corpus."
            )
        if self.count is not None and train < self.count:
            raise OnionError(
                f"--count {self.count}: the checkpoint was trained on {train} articles; give --count {train} or less."
            )

    def make_row(self, position: int, group: str, split: str, at: int) -> Row:
        encoded, headline = self.datamodule.encoded[split][at], self.datamodule.texts[split][at]["headline"]
        ids, cut = encoded["input_ids"], encoded["prompt_length"]
        ended = ids[-1] == self.datamodule.tokenizer.eos_token_id
        return Row(position, headline, group, ids[:cut], ids[cut:], ids[cut : len(ids) - ended])

    def probes(self) -> list[Probe]:
        """Return all tasks. Articles that are too short to be continued after a prefix are not in its tasks."""
        asked = [*((system, "", 0) for system in DECODINGS), *WAYS]
        tasks = [(way, rows) for way in asked for rows in self.batches(way[1], way[2])]
        return [Probe(number, way[0], rows, *way[1:]) for number, (way, rows) in enumerate(tasks)]

    def batches(self, decoding: str, prefix: int) -> list[list[Row]]:
        """Return rows of similar length, together."""
        rows = [row for row in self.rows if not decoding or len(row.body) >= prefix + SPAN]
        rows.sort(key=lambda row: (len(row.prompt) if decoding else len(row.completion), row.position))
        return [rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)]

    def tasks(self) -> list[Probe]:
        return [probe for probe in self.probes() if probe.number not in self.values]


def repeated_rows(data: OnionDataModule) -> set[int]:
    """Return the training rows that have a near-duplicate among them. Exact ones are always dropped."""
    if data.filters.near_duplicates == "drop":
        return set()
    return {at for group in near_duplicates(data.texts["train"]["article"][:]) for at in group}


def trained_rows(data: OnionDataModule, checkpoint: dict[str, Any]) -> np.ndarray | None:
    """Return the training rows that a run has seen, sorted: it may have stopped early, or skipped a part of each epoch.

    Args:
        data: with its corpus encoded.
        checkpoint: of the run.

    Returns:
        None if the checkpoint does not say which: it has no position, or other rows, or another order of them.
    """
    saved = checkpoint[CHECKPOINT_KEY]
    if "position" not in saved or saved["rows"] != data.fingerprint:
        return None
    epoch, step = saved["position"]["epoch"], saved["position"]["step"]
    earlier = checkpoint["global_step"] + saved["position"].get("skipped_steps", 0) - step
    if earlier % max(epoch, 1) or (earlier and not epoch):
        return None
    steps: Sequence[int] = [*[earlier // max(epoch, 1)] * epoch, step]
    sampler = data.global_sampler()
    seen = [batch for number, most in enumerate(steps) for batch in sampler.global_batches(number)[:most]]
    return np.unique(np.concatenate(seen)) if seen else np.zeros(0, dtype=int)
