"""Gradient times input: a cheap estimate of how much each token's embedding contributes to the probability of a phrase."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from onion_lightning.attention.effects.intervention import stream
from onion_lightning.attention.maps import NO_WEIGHTS
from onion_lightning.attention.statistics import Span
from onion_lightning.errors import OnionError

__all__ = ["gradient_times_input"]


class LayerInputs:
    """A forward pre-hook of every layer that keeps what the layer was called with.

    Args:
        layers: number of layers.
    """

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.streams = torch.empty(0)  # (layers, 1, tokens, hidden size)
        self.others: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = stream(args, kwargs)
        if not self.others:  # all at once: allocated between large temporaries, they fragment the heap
            self.streams = hidden.new_empty(self.layers, *hidden.shape)
        self.streams[len(self.others)] = hidden
        self.others.append((args[1:], {name: one for name, one in kwargs.items() if name != "hidden_states"}))


def gradient_times_input(model: PreTrainedModel, ids: Sequence[int], query: Span) -> np.ndarray:
    """Return, for each token before the query's last, the gradient of the query's log-probability times its embedding.

    The gradient goes through the weights as they are loaded, quantized or not. Only the inputs of the layers are kept, and
    each layer is computed again when its gradient is.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids of the text.
        query: the query's tokens.

    Returns:
        (query.stop - 1,), in nats: dot products of gradient and embedding.

    Raises:
        OnionError: the gradient is not finite, or the model has no norm after its layers.
    """
    decoder = model.get_decoder()
    layers = list(decoder.layers)
    if not hasattr(decoder, "norm"):
        raise OnionError(NO_WEIGHTS)
    inputs, outputs = LayerInputs(len(layers)), LayerInputs(1)
    hooks = [layer.register_forward_pre_hook(inputs, with_kwargs=True) for layer in layers]
    hooks.append(decoder.norm.register_forward_pre_hook(outputs, with_kwargs=True))
    try:
        with torch.no_grad():
            decoder(input_ids=torch.tensor([list(ids[: query.stop - 1])], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    gradient = head_gradient(model, outputs.streams[0], ids, query)
    for place in reversed(range(len(layers))):
        gradient = layer_gradient(layers[place], inputs.streams[place], inputs.others[place], gradient)
    product = (gradient.float() * inputs.streams[0].float()).sum(-1)[0]
    if not product.isfinite().all():
        raise OnionError(
            "--effect true: the gradient of the embeddings is not finite; try --trainer.precision bf16-mixed or 32-true."
        )
    return product.cpu().numpy()


def head_gradient(model: PreTrainedModel, hidden: torch.Tensor, ids: Sequence[int], query: Span) -> torch.Tensor:
    """Return the gradient of the query's log-probability at the last layer's output, (1, tokens, hidden size)."""
    with torch.enable_grad():
        last = hidden.detach().requires_grad_()
        states = model.get_decoder().norm(last)[0, query.first - 1 :]
        logits = model.get_output_embeddings()(states).float()  # (query tokens, vocabulary)
        targets = torch.tensor(ids[query.first : query.stop], device=model.device)
        log_probability = -torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        [gradient] = torch.autograd.grad(log_probability, last)
    return gradient


def layer_gradient(
    layer: torch.nn.Module, hidden: torch.Tensor, others: tuple[tuple[Any, ...], dict[str, Any]], gradient: torch.Tensor
) -> torch.Tensor:
    """Return the gradient with respect to a layer's input, given that with respect to its output."""
    args, kwargs = others
    with torch.enable_grad():
        before = hidden.detach().requires_grad_()
        after = layer(before, *args, **kwargs)
        after = after[0] if isinstance(after, tuple) else after
        [found] = torch.autograd.grad(after, before, gradient)
    return found
