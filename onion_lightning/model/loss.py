"""Computes the cross-entropy over supervised tokens: summed over a micro-batch, averaged over a held-out split."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import Strategy

__all__ = ["HeldOutLoss", "supervised_loss", "token_losses", "zero_loss"]

CHUNK = 256  # tokens whose logits exist at a time
SCALE = 1024.0  # of probabilities in a product


def supervised_loss(
    hidden: torch.Tensor, head: torch.nn.Module, predictors: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Sum -log p over the supervised tokens of a micro-batch, in nats. The arguments are those of `token_losses`."""
    losses = token_losses(hidden, head, predictors, targets)
    return sum((part.sum() for part in losses.split(CHUNK)), torch.zeros((), device=losses.device))


def token_losses(
    hidden: torch.Tensor, head: torch.nn.Module, predictors: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return -log p of each supervised token of a micro-batch, in nats, (supervised,).

    Args:
        hidden: last hidden states, (tokens, hidden size).
        head: maps hidden states to logits (tokens, vocabulary).
        predictors: position that predicts each supervised token, (supervised,).
        targets: ids of the supervised tokens, (supervised,).
    """
    hidden = hidden.index_select(0, predictors)  # the logits are by far the largest tensor: no others are computed
    if isinstance(head, torch.nn.Linear) and not any(p.requires_grad for p in head.parameters()):
        loss: torch.Tensor = FrozenHeadLoss.apply(hidden, head, targets)
        return loss
    return F.cross_entropy(head(hidden).float(), targets, reduction="none")


class FrozenHeadLoss(torch.autograd.Function):
    """The cross-entropy of each token after a frozen output layer.

    The gradient of the hidden states is computed in the forward pass, a few tokens at a time: the logits of all tokens never
    exist together.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> torch.Tensor:
        losses, gradients = [], []
        for states, expected in zip(hidden.split(CHUNK), targets[:, None].split(CHUNK), strict=True):
            logits = head(states).float()  # (chunk, vocabulary)
            total = logits.logsumexp(1, keepdim=True)
            losses.append(total - logits.gather(1, expected))
            if ctx.needs_input_grad[0]:
                gradients.append(hidden_gradient(logits, total, expected, head.weight))
        ctx.dtype = hidden.dtype
        ctx.save_for_backward(*gradients)
        return torch.cat(losses)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        [gradient] = gradients
        return (torch.cat(ctx.saved_tensors) * gradient[:, None]).to(ctx.dtype), None, None


def hidden_gradient(
    logits: torch.Tensor, total: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of each token's cross-entropy with respect to its hidden state, float32, (tokens, hidden size).

    Args:
        logits: float32, (tokens, vocabulary); overwritten.
        total: log of the sum of their exponentials, (tokens, 1).
        targets: token ids, (tokens, 1).
        weight: of the output layer, (vocabulary, hidden size).
    """
    probabilities = logits.sub_(total).exp_()
    probabilities.scatter_add_(1, targets, torch.full_like(total, -1.0))
    # Most probabilities are too small for fp16. A power of two changes no other digit.
    return (probabilities.mul_(SCALE).to(weight.dtype) @ weight).float() / SCALE


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
