"""How likely a model finds given articles, teacher-forced, and bootstrap intervals over articles."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import bootstrap

__all__ = ["RESAMPLES", "completion_losses", "interval", "paired_difference", "per_unit"]

RESAMPLES = 2000


def completion_losses(
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    head: Callable[[torch.Tensor], torch.Tensor],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    device: torch.device,
) -> list[float]:
    """-log p in nats of each completion after its prompt, summed over its tokens in float64.

    Args:
        forward: hidden states (rows, length, hidden) of ids and mask (rows, length).
        head: logits (tokens, vocabulary) of hidden states (tokens, hidden).
        prompts: token ids.
        completions: token ids, as many lists.
        device: where the model is.
    """
    width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        length = len(prompt) + len(completion)
        ids[row, :length] = torch.tensor([*prompt, *completion])
        mask[row, :length] = 1
        scored[row, len(prompt) : length] = True
    ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
    hidden = forward(ids, mask)[:, :-1]  # (rows, length - 1, hidden)
    losses = torch.zeros(ids.shape, dtype=torch.float64, device=device)
    for row in range(len(ids)):  # one row's logits at a time: they are by far the largest tensor
        here = scored[row, 1:]
        logits = head(hidden[row][here]).float()  # (completion, vocabulary)
        losses[row, 1:][here] = F.cross_entropy(logits, ids[row, 1:][here], reduction="none").double()
    return [float(loss) for loss in losses.sum(1)]


def per_unit(losses: Any, units: Any, axis: int = -1) -> Any:
    """Losses per token, or per whatever is counted: the ratio of the sums."""
    return np.sum(losses, axis=axis) / np.sum(units, axis=axis)


def interval(samples: Sequence[Any], statistic: Callable[..., Any], seed: int) -> list[float]:
    """A 95% percentile bootstrap interval over articles (Efron 1979; scipy's), as [low, high].

    Args:
        samples: arrays (articles,) that are drawn together.
        statistic: of such arrays, taking `axis`.
        seed: the same seed gives the same interval.
    """
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    drawn = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)]


def paired_difference(one: Any, other: Any, tokens: Any, seed: int) -> dict[str, Any]:
    """Loss per token of one system less that of another on the same tokens, and its interval; below 0, one is better."""
    gap = np.asarray(one) - np.asarray(other)
    return {"difference": float(per_unit(gap, tokens)), "interval": interval([gap, tokens], per_unit, seed)}
