"""Gradient times input: a cheap estimate of how much each token's embedding contributes to the probability of a phrase."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from onion_lightning.attention.effects.intervention import Arguments, stream
from onion_lightning.attention.maps import NO_WEIGHTS
from onion_lightning.attention.statistics import Span
from onion_lightning.errors import OnionError

__all__ = ["Gradient", "gradient_times_input"]


class Gradient(NamedTuple):
    """Of a query's log-probability.

    Attributes:
        times_input: dot products of gradient and embedding, in nats, for each token before the query's last.
        log_probability: of the query, in nats.
    """

    times_input: np.ndarray
    log_probability: float


class LayerInputs:
    """A forward pre-hook of every layer that keeps what the layer was called with: its input, only of some layers.

    Args:
        layers: number of layers.
        every: the input of each layer whose number is a multiple of this one is kept.
    """

    def __init__(self, layers: int, every: int) -> None:
        self.kept = math.ceil(layers / every)
        self.every = every
        self.streams = torch.empty(0)  # (kept, 1, tokens, hidden size)
        self.others: list[Arguments] = []

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = stream(args, kwargs)
        if not self.others:  # all at once: allocated between large temporaries, they fragment the heap
            self.streams = hidden.new_empty(self.kept, *hidden.shape)
        place, rest = divmod(len(self.others), self.every)
        if rest == 0:
            self.streams[place] = hidden
        self.others.append((args[1:], {name: one for name, one in kwargs.items() if name != "hidden_states"}))


def gradient_times_input(model: PreTrainedModel, ids: Sequence[int], query: Span) -> Gradient:
    """Return, for each token before the query's last, the gradient of the query's log-probability times its embedding.

    The gradient goes through the weights as they are loaded, quantized or not. Of n layers, the inputs of sqrt(n) are kept,
    and those between them are computed again, as is each layer when its gradient is.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids of the text.
        query: the query's tokens.

    Raises:
        OnionError: the gradient is not finite, or the model has no norm after its layers.
    """
    decoder = model.get_decoder()
    layers = list(decoder.layers)
    if not hasattr(decoder, "norm"):
        raise OnionError(NO_WEIGHTS)
    every = math.isqrt(len(layers))
    inputs, outputs = LayerInputs(len(layers), every), LayerInputs(1, 1)
    hooks = [layer.register_forward_pre_hook(inputs, with_kwargs=True) for layer in layers]
    hooks.append(decoder.norm.register_forward_pre_hook(outputs, with_kwargs=True))
    try:
        with torch.no_grad():
            decoder(input_ids=torch.tensor([list(ids[: query.stop - 1])], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    log_probability, gradient = head_gradient(model, outputs.streams[0], ids, query)
    for place in reversed(range(inputs.kept)):
        segment = slice(place * every, (place + 1) * every)
        gradient = segment_gradient(layers[segment], inputs.others[segment], inputs.streams[place], gradient)
    product = (gradient.float() * inputs.streams[0].float()).sum(-1)[0]
    if not product.isfinite().all():
        raise OnionError(
            "--effect true: the gradient of the embeddings is not finite; try --trainer.precision bf16-mixed or 32-true."
        )
    return Gradient(product.cpu().numpy(), log_probability)


def head_gradient(
    model: PreTrainedModel, hidden: torch.Tensor, ids: Sequence[int], query: Span
) -> tuple[float, torch.Tensor]:
    """Return the query's log-probability, and its gradient at the last layer's output, (1, tokens, hidden size)."""
    with torch.enable_grad():
        last = hidden.detach().requires_grad_()
        states = model.get_decoder().norm(last)[0, query.first - 1 :]
        logits = model.get_output_embeddings()(states).float()  # (query tokens, vocabulary)
        targets = torch.tensor(ids[query.first : query.stop], device=model.device)
        log_probability = -torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        [gradient] = torch.autograd.grad(log_probability, last)
    return float(log_probability.detach()), gradient


def segment_gradient(
    layers: Sequence[torch.nn.Module], others: Sequence[Arguments], hidden: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Return the gradient with respect to the first layer's input `hidden`, given that with respect to the last's output."""
    inputs = hidden.new_empty(len(layers), *hidden.shape)
    inputs[0] = hidden
    with torch.no_grad():
        for place in range(len(layers) - 1):
            inputs[place + 1] = run_layer(layers[place], inputs[place], others[place])
    for place in reversed(range(len(layers))):
        with torch.enable_grad():
            before = inputs[place].requires_grad_()
            [gradient] = torch.autograd.grad(run_layer(layers[place], before, others[place]), before, gradient)
    return gradient


def run_layer(layer: torch.nn.Module, hidden: torch.Tensor, others: Arguments) -> torch.Tensor:
    """Return a layer's output for another input than the one that it was called with."""
    args, kwargs = others
    output = layer(hidden, *args, **kwargs)
    after: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return after
