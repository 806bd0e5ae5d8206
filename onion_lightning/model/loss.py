"""Computes the cross-entropy over supervised tokens: summed over a micro-batch, averaged over a held-out split."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import Strategy

from onion_lightning.data.collate import IGNORE

__all__ = ["HeldOutLoss", "supervised_loss", "zero_loss"]


def supervised_loss(
    hidden: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor
) -> torch.Tensor:
    """Sum -log p over the supervised tokens of a micro-batch, in nats.

    Args:
        hidden: last hidden states, (rows, length, hidden size).
        head: maps hidden states (tokens, hidden size) to logits (tokens, vocabulary).
        labels: token ids, `IGNORE` at positions without supervision; (rows, length).
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORE
    # The logits are by far the largest tensor: compute them at supervised positions only.
    logits = head(hidden[:, :-1][supervised])  # (supervised, vocabulary)
    return F.cross_entropy(logits.float(), targets[supervised], reduction="sum")


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

    def update(self, loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a micro-batch.

        Args:
            loss: sum over its supervised tokens, in nats.
            labels: as for `supervised_loss`.
        """
        tokens = (labels[:, 1:] != IGNORE).sum()
        self.sums += torch.stack([loss.double(), tokens.double()])

    def compute(self, strategy: Strategy) -> dict[str, torch.Tensor]:
        """Return `loss` in nats per token and `perplexity`, both over all ranks."""
        total, tokens = strategy.reduce(self.sums, reduce_op="sum")
        loss = total / tokens
        return {"loss": loss.float(), "perplexity": loss.exp().float()}
