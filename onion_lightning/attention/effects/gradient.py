"""Gradient times input: a cheap estimate of how much each token's embedding contributes to the probability of a phrase."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from onion_lightning.attention.effects.intervention import decoder_blocks
from onion_lightning.attention.statistics import Span
from onion_lightning.errors import OnionError

__all__ = ["gradient_times_input"]


def gradient_times_input(model: PreTrainedModel, ids: Sequence[int], query: Span) -> np.ndarray:
    """Return, for each token before the query's last, the gradient of the query's log-probability times its embedding.

    The gradient goes through the weights as they are loaded, quantized or not. Only the inputs of the layers are kept, and a
    layer is computed again when its gradient is.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids of the text.
        query: the query's tokens.

    Returns:
        (query.stop - 1,), in nats: dot products of gradient and embedding.

    Raises:
        OnionError: the gradient is not finite.
    """
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad(), checkpointed(model):
            known = torch.tensor([list(ids[: query.stop - 1])], device=model.device)
            hidden = model.get_decoder()(input_ids=known, use_cache=False).last_hidden_state
            logits = model.get_output_embeddings()(hidden[0, query.first - 1 :]).float()  # (query tokens, vocabulary)
            targets = torch.tensor(ids[query.first : query.stop], device=model.device)
            log_probability = -torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            [gradient] = torch.autograd.grad(log_probability, kept)  # (1, tokens, hidden size)
    finally:
        handle.remove()
    product = (gradient.float() * kept[0].detach().float()).sum(-1)[0]
    if not product.isfinite().all():
        raise OnionError(
            "--effect true: the gradient of the embeddings is not finite; try --trainer.precision bf16-mixed or 32-true."
        )
    return product.cpu().numpy()


@contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Compute layers again in the backward pass. The model's own gradient checkpointing is for `train()` mode only."""
    blocks = decoder_blocks(model)
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
