"""The LightningModule that generates and scores articles with systems that share one copy of the weights."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onion_lightning.data.prompt import encode_texts
from onion_lightning.errors import NonFiniteError
from onion_lightning.evaluation.also import OtherModel, place_adapters, with_adapters_of
from onion_lightning.evaluation.tasks import BEST_OF, EvaluationData, Row, ScoredArticle, Task, few_shot_prompt
from onion_lightning.model.adapters.switches import adapters_enabled
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import continue_prompts
from onion_lightning.model.module import OnionModule
from onion_lightning.model.ranks import exclude_frozen_weights
from onion_lightning.model.sharding.pace import keeping_pace
from onion_lightning.model.writing.losses import completion_losses, opening_losses
from onion_lightning.seeding import mix_seed

__all__ = ["RANKED_TOKENS", "Evaluator", "TaskRunner", "rank_headlines"]

# Headlines are ranked by the first tokens of an article only, because they are scored after every headline.
RANKED_TOKENS = 64


class TaskRunner(pl.LightningModule):
    """Loads a base model and the adapters of a checkpoint, to run tasks with one copy of the weights.

    Args:
        onion: base model and adapters.
    """

    def __init__(self, onion: OnionModule) -> None:
        super().__init__()
        self.onion = onion
        self.strict_loading = False  # checkpoints contain only adapters

    def configure_model(self) -> None:
        self.onion.configure_model()
        exclude_frozen_weights(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.onion.on_load_checkpoint(checkpoint)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.onion.load_state_dict(state_dict, assign=assign)

    def cpu(self) -> "TaskRunner":
        """Leave the model on its device, as `OnionModule.cpu` does."""
        return self

    def check_finite(self, task: Any, losses: Sequence[float]) -> None:
        """Check the losses of a task's rows.

        Raises:
            NonFiniteError: one is not finite.
        """
        headlines = [row.headline for row, loss in zip(task.rows, losses, strict=True) if not math.isfinite(loss)]
        if headlines:
            system = task.system.replace("_", "-")
            raise NonFiniteError(
                f"--model.load_in {self.onion.load_in}: the loss of the {system} model is not finite for"
                f" {'; '.join(headlines)}; either the checkpoint is damaged or a value overflowed: try --model.load_in none."
            )


class Evaluator(TaskRunner):
    """Runs the tasks of an evaluation; afterwards `scored` contains the articles of all ranks, in no particular order.

    Args:
        onion: base model and adapters.
        data: the tasks.
        others: other fine-tuned models, by the names of their systems.
    """

    def __init__(self, onion: OnionModule, data: EvaluationData, others: Mapping[str, OtherModel]) -> None:
        super().__init__(onion)
        self.data = data
        self.others = others
        self.scored: list[ScoredArticle] = []

    def configure_model(self) -> None:
        super().configure_model()
        self.placed = place_adapters(self.onion, self.others)
        exclude_frozen_weights(self)

    def predict_step(self, task: Task, batch_idx: int) -> int:
        """Score the real articles of a batch and generate new ones.

        Returns:
            The number of rows, because Lightning warns about None.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        with keeping_pace(self.onion.pace):
            if task.rows:
                self.score(task)
        return len(task.rows)

    def score(self, task: Task) -> None:
        """Score and rank the articles of a batch, and generate new ones."""
        prompts = [self.prompt(row, task.system) for row in task.rows]
        losses: list[float | None] = [None] * len(task.rows)
        with with_adapters_of(task.system, self.onion, self.placed):
            if task.system != BEST_OF:
                found = completion_losses(self.onion.language_model, prompts, [row.completion for row in task.rows])
                self.check_finite(task, found)
                losses = [*found]
            began = time.perf_counter()
            articles = self.generate(task, prompts)
        seconds = (time.perf_counter() - began) / len(task.rows) if self.timed(task.system) else None
        ranks = self.ranks(task.rows, [article.text for article in articles])
        for row, rank, loss, article in zip(task.rows, ranks, losses, articles, strict=True):
            written = (article.tokens, article.finish_reason, seconds)
            self.scored.append(ScoredArticle(row.position, task.system, article.text, rank, loss, *written))
        if task.system == "base":  # the real articles are ranked once
            ranks = self.ranks(task.rows, [row.article for row in task.rows])
            for row, rank in zip(task.rows, ranks, strict=True):
                self.scored.append(ScoredArticle(row.position, "real", row.article, rank))

    def timed(self, system: str) -> bool:
        """Return whether it matters how long a system takes: to compare the best of several articles with one."""
        return self.data.best_of > 1 and system in ("tuned", BEST_OF)

    def prompt(self, row: Row, system: str) -> list[int]:
        shots = row.shots if system == "few_shot" else []
        return few_shot_prompt(shots, row.prompt, self.onion.tokenizer.bos_token_id)

    def generate(self, task: Task, prompts: Sequence[Sequence[int]]) -> list[Article]:
        onion = self.onion
        # The seed depends on the rows only: every system samples with the same random numbers.
        seed = mix_seed(onion.seed, *(row.position for row in task.rows))
        if task.system == BEST_OF:
            onion.copies = self.data.copies
            decoding = replace(onion.one_article, best_of=self.data.best_of)
            articles = onion.write([row.headline for row in task.rows], seed, decoding)
        else:
            articles = continue_prompts(onion.language_model, onion.tokenizer, prompts, onion.one_article, seed)
        return [article for (article,) in articles]

    def ranks(self, rows: Sequence[Row], articles: Sequence[str]) -> list[int]:
        """Return the rank of each row's headline among all headlines for its article, under the base model."""
        prompts = [row.prompt for row in self.data.rows]
        with adapters_enabled(self.onion.model, False):
            return rank_headlines(
                self.onion.language_model, self.onion.tokenizer, prompts, [row.position for row in rows], articles
            )

    def on_predict_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self.scored)
            self.scored = [article for articles in gathered for article in articles]


def rank_headlines(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    positions: Sequence[int],
    articles: Sequence[str],
) -> list[int]:
    """Rank all headlines by the likelihood of an article's first tokens given each of them.

    Args:
        model: the judge.
        tokenizer: of the model.
        prompts: token ids of all headlines.
        positions: for each article, the position of its own headline.
        articles: the texts.

    Returns:
        The ranks of the own headlines, from 1. Ties count against them; for an empty article it is the last.
    """
    openings = [ids[:RANKED_TOKENS] for ids in encode_texts(tokenizer, list(articles))]
    scored = [at for at, opening in enumerate(openings) if opening]
    ranks = [len(prompts)] * len(articles)
    for at, losses in zip(scored, opening_losses(model, prompts, [openings[at] for at in scored]), strict=True):
        own = losses.pop(positions[at])
        ranks[at] = 1 + sum(loss <= own for loss in losses)
    return ranks
