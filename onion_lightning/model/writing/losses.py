"""Computes -log p of completions given their prompts, in batches that are bounded by tokens."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, product, takewhile

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from onion_lightning.model.packed_rows import hidden_states
from onion_lightning.model.prefix import Prefix

__all__ = ["completion_losses", "opening_losses", "token_losses"]

BATCH_TOKENS = 1024  # positions computed at once, with padding; larger batches are no faster on a CPU
LOGIT_POSITIONS = 256  # the logits are by far the largest tensor: 256 rows of 49,152 float32 numbers take 50 MB
SHORTEST_PREFIX = 32  # tokens; below it, a prefix is computed again rather than shared

Ids = Sequence[int]


def completion_losses(model: PreTrainedModel, prompts: Sequence[Ids], completions: Sequence[Ids]) -> list[float]:
    """Return -log p in nats of each completion given its prompt, summed over its tokens in float64.

    What all prompts begin with, such as the examples of few-shot prompts, is computed once.

    Args:
        model: causal language model, with its adapters enabled or not.
        prompts: token ids.
        completions: token ids, one list per prompt.
    """
    common = common_length(prompts)
    prefix = Prefix(model, [prompts[0][:common]]) if common else None
    rests = [prompt[common:] for prompt in prompts]
    lengths = [len(rest) + len(completion) for rest, completion in zip(rests, completions, strict=True)]
    losses = [0.0] * len(prompts)
    for batch in token_batches(lengths):
        forward = partial(hidden_states, model) if prefix is None else partial(prefix.continued, [0] * len(batch))
        found = continuation_losses(model, forward, [rests[at] for at in batch], [completions[at] for at in batch])
        for at, loss in zip(batch, found, strict=True):
            losses[at] = loss
    return losses


def common_length(prompts: Sequence[Ids]) -> int:
    """Return how many tokens all prompts begin with, without any prompt's last; 0 if sharing them is not worth it."""
    if len(prompts) < 2:
        return 0
    equal = (len(set(tokens)) == 1 for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False))
    length = sum(takewhile(bool, equal))
    return length if length >= SHORTEST_PREFIX else 0


def opening_losses(model: PreTrainedModel, prompts: Sequence[Ids], openings: Sequence[Ids]) -> list[list[float]]:
    """Return the loss of every opening after every prompt, as `completion_losses` defines it: one list per opening.

    The prompts are computed once, in groups of the same length.
    """
    losses = [[0.0] * len(prompts) for _ in openings]
    by_length = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    for _, group in groupby(by_length, key=lambda at: len(prompts[at])):
        same = list(group)
        # Each row begins with the last token of its prompt, which predicts the first token of the opening.
        prefix = Prefix(model, [prompts[at][:-1] for at in same])
        pairs = list(product(range(len(same)), range(len(openings))))  # (prompt of the group, opening)
        for batch in token_batches([len(openings[opening]) for _, opening in pairs]):
            texts, chosen = zip(*(pairs[at] for at in batch), strict=True)
            starts = [prompts[same[text]][-1:] for text in texts]
            forward = partial(prefix.continued, texts)
            found = continuation_losses(model, forward, starts, [openings[at] for at in chosen])
            for text, opening, loss in zip(texts, chosen, found, strict=True):
                losses[opening][same[text]] = loss
    return losses


def token_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches of positions, sorted by length, of at most `BATCH_TOKENS` tokens with padding; at least one row each."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[at] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def continuation_losses(
    model: PreTrainedModel,
    forward: Callable[[torch.Tensor], torch.Tensor],
    starts: Sequence[Ids],
    completions: Sequence[Ids],
) -> list[float]:
    """Return the losses of a batch of completions.

    Args:
        model: its output layer is used.
        forward: maps token ids (rows, length), padded on the right, to hidden states (rows, length, hidden size).
        starts: token ids that precede the completions, at least one.
        completions: token ids.
    """
    device = model.device
    rows = [[*start, *completion[:-1]] for start, completion in zip(starts, completions, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    sizes = [len(completion) for completion in completions]
    # A completion's tokens are predicted by the last positions of its row, (tokens,).
    ends = [at * width + len(row) for at, row in enumerate(rows)]
    predictors = torch.cat([torch.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)])
    targets = torch.tensor([token for completion in completions for token in completion], device=device)
    hidden = forward(ids).flatten(0, 1)[predictors.to(device)]  # (tokens, hidden size)
    losses: list[float] = torch.stack([own.sum() for own in token_losses(model, hidden, targets).split(sizes)]).tolist()
    return losses


def token_losses(model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -log p of each target in float64, (tokens,), from the hidden states that predict them."""
    head = model.get_output_embeddings()
    parts = zip(hidden.split(LOGIT_POSITIONS), targets.split(LOGIT_POSITIONS), strict=True)
    losses = [F.cross_entropy(head(part).float(), ids, reduction="none") for part, ids in parts]
    return torch.cat(losses).double()
