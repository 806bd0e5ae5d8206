"""Computes the cross-entropy over supervised tokens: summed over a micro-batch, averaged over a held-out split."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import Strategy

__all__ = ["HeldOutLoss", "supervised_loss", "zero_loss"]


def supervised_loss(
    hidden: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    predictors: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Sum -log p over the supervised tokens of a micro-batch, in nats.

    Args:
        hidden: last hidden states, (rows, length, hidden size).
        head: maps hidden states (tokens, hidden size) to logits (tokens, vocabulary).
        predictors: position that predicts each supervised token, in the flattened rows; (supervised,).
        targets: ids of the supervised tokens, (supervised,).
    """
    # The logits are by far the largest tensor: compute them at supervised positions only.
    logits = head(hidden.flatten(0, 1).index_select(0, predictors))  # (supervised, vocabulary)
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def zero_loss(parameters: Iterable[torch.nn.Parameter], device: torch.device) -> torch.Tensor:
    """Return a loss of 0 that gives every trainable parameter a gradient of 0, which DDP waits for on each rank."""
    return sum((p.sum() * 0.0 for p in parameters if p.requires_grad), torch.zeros((), device=device))


class HeldOutLoss:
    """Accumulates the loss and the number of supervised tokens of a held-out split, in float64.

    The mean is taken over tokens: it does not depend on how rows are divided into micro-batches or among ranks.

    Args:
        device: where the losses are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss in nats, tokens

    def update(self, loss: torch.Tensor, tokens: int) -> None:
        """Add a micro-batch.

        Args:
            loss: sum over its supervised tokens, in nats.
            tokens: number of its supervised tokens.
        """
        self.sums[0] += loss
        self.sums[1] += tokens

    def compute(self, strategy: Strategy) -> dict[str, torch.Tensor]:
        """Return `loss` in nats per token and `perplexity`, both over all ranks."""
        total, tokens = strategy.reduce(self.sums, reduce_op="sum").cpu()  # so that reading them later does not wait
        loss = total / tokens
        return {"loss": loss.float(), "perplexity": loss.exp().float()}
