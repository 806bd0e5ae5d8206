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
        drift: log-probability under the reference minus that under the model, of both articles.
    """

    loss: torch.Tensor
    chosen_loss: torch.Tensor
    accuracy: torch.Tensor
    margin: torch.Tensor
    drift: torch.Tensor


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

    def figures(self, log_probs: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor) -> PairFigures:
        """Compute the loss of pairs: -log sigmoid of the difference of their rewards (equation 7 of the paper).

        Args:
            log_probs: of the chosen and the rejected article of each pair under the model, (pairs, 2), float32.
            reference: the same under the reference.
            tokens: number of tokens of the articles, (pairs, 2).
        """
        ratios = log_probs - reference
        rewards = self.beta * (ratios / tokens if self.length_normalized else ratios)
        margins = rewards[:, 0] - rewards[:, 1]
        return PairFigures(
            loss=-F.logsigmoid(margins).sum(),
            chosen_loss=-log_probs[:, 0].sum(),
            accuracy=(margins > 0).float().sum(),
            margin=margins.sum(),
            drift=-ratios.sum(),
        )


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

        `kl` is the mean of log p(reference) - log p(model) over all tokens of both articles, in nats. For articles that the
        reference wrote, it estimates the KL divergence of the model from the reference; it may be below 0 for others.
        """
        loss, chosen_loss, accuracy, margin, drift, pairs, chosen, tokens = strategy.reduce(
            self.sums, reduce_op="sum"
        ).cpu()
        means = {
            "loss": loss / pairs + self.rpo_alpha * chosen_loss / chosen,
            "reward_accuracy": accuracy / pairs,
            "reward_margin": margin / pairs,
            "kl": drift / tokens,
        }
        return {name: value.float() for name, value in means.items()}
