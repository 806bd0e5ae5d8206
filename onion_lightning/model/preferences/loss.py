"""The loss of direct preference optimization (DPO, Rafailov et al. 2023), and its figures over held-out pairs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import Strategy

from onion_lightning.errors import check_range

__all__ = ["HeldOutPairs", "PairFigures", "PreferenceSettings"]


class PairFigures(NamedTuple):
    """What was computed of the pairs of a micro-batch, each summed over them.

    Attributes:
        loss: of the pairs.
        chosen_loss: -log p of the chosen articles, in nats.
        accuracy: number of pairs whose chosen article has the higher reward.
        margin: reward of the chosen article minus that of the rejected one.
        divergence: half of the squared log-ratio of each token, of both articles.
    """

    loss: torch.Tensor
    chosen_loss: torch.Tensor
    accuracy: torch.Tensor
    margin: torch.Tensor
    divergence: torch.Tensor


@dataclass(frozen=True)
class PreferenceSettings:
    """How preferences are learned.

    Attributes:
        beta: factor on log-ratios, which makes them rewards.
        length_normalized: divide the log-ratio of each article by its number of tokens.
        rpo_alpha: weight of the chosen articles' own loss.
    """

    beta: float = 0.1
    length_normalized: bool = False
    rpo_alpha: float = 0.0

    def check(self) -> None:
        """Raise an `OnionError` at a value out of range."""
        check_range("--model.beta", self.beta, self.beta > 0, "above 0")
        check_range("--model.rpo_alpha", self.rpo_alpha, self.rpo_alpha >= 0, "at least 0")

    def figures(
        self, log_probs: torch.Tensor, reference: torch.Tensor, article_lengths: list[int], lengths: torch.Tensor
    ) -> PairFigures:
        """Compute the loss of pairs: -log sigmoid of the difference of their rewards (equation 7 of the paper).

        Args:
            log_probs: of the supervised tokens under the model, (supervised,), float32.
            reference: the same under the reference.
            article_lengths: number of these tokens in each article, the chosen and the rejected one of each pair in turn.
            lengths: the same, (pairs, 2).
        """
        token_ratios = log_probs - reference
        ratios = sum_articles(token_ratios, article_lengths)
        rewards = self.beta * (ratios / lengths if self.length_normalized else ratios)
        margins = rewards[:, 0] - rewards[:, 1]
        return PairFigures(
            loss=-F.logsigmoid(margins).sum(),
            chosen_loss=-sum_articles(log_probs, article_lengths)[:, 0].sum(),
            accuracy=(margins > 0).float().sum(),
            margin=margins.sum(),
            divergence=token_ratios.square().sum() / 2,
        )


def sum_articles(values: torch.Tensor, article_lengths: list[int]) -> torch.Tensor:
    """Add up the values of the tokens, (supervised,), of each article, (pairs, 2)."""
    return torch.stack([tokens.sum() for tokens in values.split(article_lengths)]).view(-1, 2)


class HeldOutPairs:
    """Accumulates the figures of held-out pairs, in float64. They do not depend on how pairs are divided among ranks.

    Args:
        device: where they are computed.
        rpo_alpha: as in `PreferenceSettings`.
    """

    def __init__(self, device: torch.device, rpo_alpha: float) -> None:
        self.sums = torch.zeros(len(PairFigures._fields) + 3, dtype=torch.float64, device=device)  # and three counts
        self.rpo_alpha = rpo_alpha

    def update(self, figures: PairFigures, lengths: list[int]) -> None:
        """Add a micro-batch.

        Args:
            figures: of its pairs.
            lengths: number of tokens of each article.
        """
        self.sums[:-3] += torch.stack(list(figures))
        for at, count in enumerate((len(lengths) // 2, sum(lengths[0::2]), sum(lengths)), start=-3):
            self.sums[at] += count

    def compute(self, strategy: Strategy) -> dict[str, torch.Tensor]:
        """Return the means over the pairs of all ranks: loss, accuracy and margin of the rewards, and `kl`.

        `kl` is the mean of (log p(model) - log p(reference))^2 / 2 over the tokens of both articles, in nats: to second
        order, the KL divergence between the two (k2 in Schulman 2020, "Approximating KL divergence"), if one of them wrote
        these articles.
        """
        loss, chosen_loss, accuracy, margin, divergence, pairs, chosen, tokens = strategy.reduce(
            self.sums, reduce_op="sum"
        ).cpu()
        means = {
            "loss": loss / pairs + self.rpo_alpha * chosen_loss / chosen,
            "reward_accuracy": accuracy / pairs,
            "reward_margin": margin / pairs,
            "kl": divergence / tokens,
        }
        return {name: value.float() for name, value in means.items()}
