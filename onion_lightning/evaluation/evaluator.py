"""The work of `evaluate`: the same held-out headlines written and scored by three systems that share one set of weights.

base: the model without adapters; few_shot: the same with examples from the training split before the prompt; tuned: with
adapters. The work is cut into tasks (a batch of headlines and a phase), which ranks share.
"""

import contextlib
import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import encode_texts
from onion_lightning.errors import NonFiniteError, OnionError
from onion_lightning.evaluation.likelihood import completion_losses
from onion_lightning.model.decoding import continue_prompts
from onion_lightning.model.module import OnionModule
from onion_lightning.model.seeding import mix_seed

__all__ = ["DEFAULT_N", "OPENING", "SYSTEMS", "Evaluation", "EvaluationData", "Row", "fit_shots"]

SYSTEMS = ("base", "few_shot", "tuned")
OPENING = 64  # tokens of an article that its headline is recovered from: it is scored under every headline
DEFAULT_N = 32  # headlines


class Row(NamedTuple):
    """A test headline.

    Attributes:
        place: in the evaluation.
        headline: text.
        article: text of the real article, whole.
        prompt: token ids of its prompt.
        completion: token ids of the real article as `test` scores it, EOS included where it was not cut.
        shots: token ids that stand before the prompt for `few_shot`, BOS first.
        shot_count: number of examples in `shots`.
    """

    place: int
    headline: str
    article: str
    prompt: list[int]
    completion: list[int]
    shots: list[int]
    shot_count: int


class Task(NamedTuple):
    """What a rank does at a time: one batch of rows, by one system."""

    number: int
    system: str
    rows: list[Row]


class EvaluationData(pl.LightningDataModule):
    """The tasks, from the test split of a data module.

    Args:
        data: of the corpus.
        shots: examples before each prompt of `few_shot`.
        n: how many test headlines; None takes 32, or as many as there are.
        batch_size: headlines at a time.
        new_tokens: room to leave for writing.
    """

    def __init__(self, data: OnionDataModule, shots: int, n: int | None, batch_size: int, new_tokens: int) -> None:
        super().__init__()
        self.data = data
        self.shots = shots
        self.n = n
        self.batch_size = batch_size
        self.new_tokens = new_tokens
        self.rows: list[Row] = []

    def prepare_data(self) -> None:
        self.data.encode()

    def setup(self, stage: str) -> None:
        """Choose rows and examples by seed.

        Raises:
            OnionError: the test split or the training split is too small.
        """
        data = self.data
        data.trainer = self.trainer
        data.setup("test")
        found, wanted = len(data.encoded["test"]), self.n or DEFAULT_N
        if found < 2:
            raise OnionError(
                f"--data.test_fraction {data.fractions[1]}: leaves {found} test headlines, and at least 2 are compared; fit"
                " with a larger one, or give a larger corpus."
            )
        if self.n is not None and found < self.n:
            raise OnionError(f"--n {self.n}: the test split has {found} headlines; give --n {found} or less.")
        chosen = sorted(random.Random(data.seed).sample(range(found), min(wanted, found)))
        examples = self.examples()
        self.rows = [self.row(index, at, examples) for index, at in enumerate(chosen)]

    def examples(self) -> list[list[int]]:
        """Token ids of the training examples that `few_shot` sees, the same ones for every headline.

        None of them was cut: an example that stops in the middle would teach not to end.
        """
        train = self.data.encoded["train"]
        whole = [
            at for at, (cut, full) in enumerate(zip(train["length"], train["full_length"], strict=True)) if cut == full
        ]
        if self.shots > len(whole):
            raise OnionError(
                f"--shots {self.shots}: the training split has {len(whole)} rows that are not cut at --data.max_length"
                f" {self.data.max_length}; give fewer shots."
            )
        chosen = random.Random(self.data.seed + 1).sample(whole, self.shots)
        return [train[at]["input_ids"] for at in chosen]

    def row(self, index: int, at: int, examples: list[list[int]]) -> Row:
        text, encoded = self.data.texts["test"][at], self.data.encoded["test"][at]
        ids, cut = encoded["input_ids"], encoded["prompt_length"]
        context = self.data.context
        room = context - cut - max(self.new_tokens, len(ids) - cut)
        shots, count = fit_shots(examples, room, self.data.tokenizer.bos_token_id)
        return Row(index, text["headline"], text["article"], ids[:cut], ids[cut:], shots, count)

    def tasks(self) -> list[Task]:
        by_length = sorted(self.rows, key=lambda row: (len(row.completion), row.place))
        batches = [by_length[at : at + self.batch_size] for at in range(0, len(by_length), self.batch_size)]
        named = [(system, batch) for system in SYSTEMS for batch in batches]
        return [Task(number, system, batch) for number, (system, batch) in enumerate(named)]

    def predict_dataloader(self) -> DataLoader:
        trainer = self.trainer
        assert trainer is not None
        # Whole tasks go to ranks, so that a row's batch, and with it its figures, is the same on any number of them.
        # A rank without a task gets one without rows: a loader of no batches is an error.
        mine: Any = self.tasks()[trainer.global_rank :: trainer.world_size] or [Task(-1, "base", [])]
        return DataLoader(mine, batch_size=None, collate_fn=lambda task: task)


def fit_shots(examples: Sequence[list[int]], room: int, bos: int | None) -> tuple[list[int], int]:
    """As many examples, whole and in order, as fit into so many tokens.

    Returns:
        Their token ids with at most the first BOS, and how many they are.
    """
    ids: list[int] = []
    count = 0
    for example in examples:
        body = example[1:] if ids and example[0] == bos else example
        if len(ids) + len(body) <= room:
            ids, count = ids + body, count + 1
    return ids, count


class Evaluation(pl.LightningModule):
    """Does the tasks, and holds all ranks' records in `records` when it is done.

    Args:
        onion: base model and adapters.
        data: the tasks.
    """

    def __init__(self, onion: OnionModule, data: EvaluationData) -> None:
        super().__init__()
        self.onion = onion
        self.data = data
        self.strict_loading = False
        self.records: list[dict[str, Any]] = []

    def configure_model(self) -> None:
        self.onion.configure_model()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.onion.on_load_checkpoint(checkpoint)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.onion.load_state_dict(state_dict, assign=assign)

    def cpu(self) -> "Evaluation":
        """Stay where it is, as `OnionModule.cpu` does."""
        return self

    def adapters(self, system: str) -> contextlib.AbstractContextManager[Any]:
        """The model as a system has it: one copy of the weights serves all (peft's `disable_adapter`)."""
        assert self.onion.model is not None
        return contextlib.nullcontext() if system == "tuned" else self.onion.model.disable_adapter()

    def prompt(self, row: Row, system: str) -> list[int]:
        if system != "few_shot" or not row.shots:
            return row.prompt
        bos = self.onion.tokenizer.bos_token_id
        return row.shots + (row.prompt[1:] if row.prompt[0] == bos else row.prompt)

    def losses(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[float]:
        head = self.onion.language_model.get_output_embeddings()
        return completion_losses(self.onion, head, prompts, completions, self.device)

    def predict_step(self, task: Task, batch_idx: int) -> int:
        """Write and score a batch's articles; returns how many.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        if not task.rows:
            return 0
        onion = self.onion
        prompts = [self.prompt(row, task.system) for row in task.rows]
        with self.adapters(task.system):
            losses = self.losses(prompts, [row.completion for row in task.rows])
            if not all(map(math.isfinite, losses)):
                raise NonFiniteError(
                    f"--model.load_in {onion.load_in}: the {task.system} model's loss is not finite for"
                    f" {[row.headline for row, loss in zip(task.rows, losses, strict=True) if not math.isfinite(loss)]};"
                    " the checkpoint is damaged, or a value overflowed: try --model.load_in none."
                )
            # The seed goes by the rows: each system draws the same numbers for them.
            seed = mix_seed(onion.seed, *(row.place for row in task.rows))
            articles = continue_prompts(onion.language_model, onion.tokenizer, prompts, onion.one_article, seed)
        for row, loss, candidates in zip(task.rows, losses, articles, strict=True):
            record = candidates[0]._asdict() | {"index": row.place, "system": task.system, "loss": loss}
            self.records.append(record | {"rank": self.rank_of_headline(row, candidates[0].text)})
            if task.system == "base":
                real = {"index": row.place, "system": "real", "text": row.article}
                self.records.append(real | {"rank": self.rank_of_headline(row, row.article)})
        return len(task.rows)

    def rank_of_headline(self, row: Row, article: str) -> int:
        """The place (1 is best) of a row's own headline among all, by how likely each makes the article's opening.

        The base model decides. Ties go against the own headline; an empty article is last.
        """
        rows = self.data.rows
        opening = encode_texts(self.onion.tokenizer, [article])[0][:OPENING]
        if not opening:
            return len(rows)
        losses: list[float] = []
        with self.adapters("base"):
            for at in range(0, len(rows), self.data.batch_size):
                prompts = [other.prompt for other in rows[at : at + self.data.batch_size]]
                losses += self.losses(prompts, [opening] * len(prompts))
        own = losses[row.place]
        return 1 + sum(loss <= own for at, loss in enumerate(losses) if at != row.place)

    def on_predict_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self.records)
            self.records = [record for records in gathered for record in records]
