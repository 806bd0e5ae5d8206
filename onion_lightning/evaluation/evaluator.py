"""The LightningModule that generates and scores articles with three systems that share one copy of the weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F

from onion_lightning.data.prompt import encode_texts
from onion_lightning.errors import NonFiniteError
from onion_lightning.evaluation.tasks import EvaluationData, Row, ScoredArticle, Task, few_shot_prompt
from onion_lightning.model.adapters import adapters_enabled
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import continue_prompts
from onion_lightning.model.module import OnionModule
from onion_lightning.model.ranks import exclude_frozen_weights
from onion_lightning.seeding import mix_seed

__all__ = ["RANKED_TOKENS", "Evaluator", "completion_losses"]

# Headlines are ranked by the first tokens of an article only, because they are scored after every headline.
RANKED_TOKENS = 64


class Evaluator(pl.LightningModule):
    """Runs the tasks of an evaluation; afterwards `scored` contains the articles of all ranks, in no particular order.

    Args:
        onion: base model and adapters.
        data: the tasks.
    """

    def __init__(self, onion: OnionModule, data: EvaluationData) -> None:
        super().__init__()
        self.onion = onion
        self.data = data
        self.strict_loading = False  # checkpoints contain only adapters
        self.scored: list[ScoredArticle] = []

    def configure_model(self) -> None:
        self.onion.configure_model()
        exclude_frozen_weights(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.onion.on_load_checkpoint(checkpoint)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.onion.load_state_dict(state_dict, assign=assign)

    def cpu(self) -> "Evaluator":
        """Leave the model on its device, as `OnionModule.cpu` does."""
        return self

    def predict_step(self, task: Task, batch_idx: int) -> int:
        """Score the real articles of a batch and generate new ones.

        Returns:
            The number of rows, because Lightning warns about None.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        if not task.rows:
            return 0
        prompts = [self.prompt(row, task.system) for row in task.rows]
        with adapters_enabled(self.onion.model, task.system == "tuned"):
            losses = self.losses(prompts, [row.completion for row in task.rows])
            self.check_finite(task, losses)
            articles = self.generate(task.rows, prompts)
        for row, loss, (text, tokens, finish_reason) in zip(task.rows, losses, articles, strict=True):
            rank = self.rank_of_headline(row, text)
            self.scored.append(ScoredArticle(row.position, task.system, text, rank, loss, tokens, finish_reason))
            if task.system == "base":
                real_rank = self.rank_of_headline(row, row.article)
                self.scored.append(ScoredArticle(row.position, "real", row.article, real_rank))
        return len(task.rows)

    def prompt(self, row: Row, system: str) -> list[int]:
        shots = row.shots if system == "few_shot" else []
        return few_shot_prompt(shots, row.prompt, self.onion.tokenizer.bos_token_id)

    def losses(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[float]:
        head = self.onion.language_model.get_output_embeddings()
        return completion_losses(self.onion, head, prompts, completions, self.device)

    def check_finite(self, task: Task, losses: Sequence[float]) -> None:
        headlines = [row.headline for row, loss in zip(task.rows, losses, strict=True) if not math.isfinite(loss)]
        if headlines:
            system = task.system.replace("_", "-")
            raise NonFiniteError(
                f"--model.load_in {self.onion.load_in}: the loss of the {system} model is not finite for"
                f" {'; '.join(headlines)}; either the checkpoint is damaged or a value overflowed: try --model.load_in none."
            )

    def generate(self, rows: Sequence[Row], prompts: Sequence[Sequence[int]]) -> list[Article]:
        onion = self.onion
        # The seed depends on the rows only: every system samples with the same random numbers.
        seed = mix_seed(onion.seed, *(row.position for row in rows))
        articles = continue_prompts(onion.language_model, onion.tokenizer, prompts, onion.one_article, seed)
        return [article for (article,) in articles]

    def rank_of_headline(self, row: Row, article: str) -> int:
        """Rank all headlines by the likelihood of an article's first tokens given each of them, under the base model.

        Returns:
            The rank of the row's own headline, from 1. Ties count against it; for an empty article it is the last.
        """
        rows = self.data.rows
        opening = encode_texts(self.onion.tokenizer, [article])[0][:RANKED_TOKENS]
        if not opening:
            return len(rows)
        losses: list[float] = []
        with adapters_enabled(self.onion.model, False):
            for at in range(0, len(rows), self.data.batch_size):
                prompts = [other.prompt for other in rows[at : at + self.data.batch_size]]
                losses += self.losses(prompts, [opening] * len(prompts))
        own = losses[row.position]
        return 1 + sum(loss <= own for at, loss in enumerate(losses) if at != row.position)

    def on_predict_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self.scored)
            self.scored = [article for articles in gathered for article in articles]


def completion_losses(
    forward: Callable[[torch.Tensor], torch.Tensor],
    head: Callable[[torch.Tensor], torch.Tensor],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    device: torch.device,
) -> list[float]:
    """Return -log p in nats of each completion given its prompt, summed over its tokens in float64.

    Args:
        forward: maps token ids (rows, length), padded on the right, to hidden states (rows, length, hidden).
        head: maps hidden states (tokens, hidden) to logits (tokens, vocabulary).
        prompts: token ids.
        completions: token ids, one list per prompt.
        device: device of the model.
    """
    ids, scored = (tensor.to(device) for tensor in right_pad(prompts, completions))
    hidden = forward(ids)[:, :-1]  # (rows, length - 1, hidden)
    losses = torch.zeros(ids.shape, dtype=torch.float64, device=device)
    for row in range(len(ids)):  # the logits are by far the largest tensor: compute them for one row at a time
        targets = scored[row, 1:]
        logits = head(hidden[row][targets]).float()  # (completion, vocabulary)
        losses[row, 1:][targets] = F.cross_entropy(logits, ids[row, 1:][targets], reduction="none").double()
    return [float(loss) for loss in losses.sum(1)]


def right_pad(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, and which tokens belong to a completion, both (rows, length)."""
    width = max(len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True))
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    scored = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        length = len(prompt) + len(completion)
        ids[row, :length] = torch.tensor([*prompt, *completion])
        scored[row, len(prompt) : length] = True
    return ids, scored
