"""Reading a model's attention from the eager pass of the model itself, layer by layer, keeping only the rows of a phrase."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError

__all__ = ["Checks", "Maps", "read_attention"]

SILENT = "--model.base_model: its layers tell no attention; take a model of Llama's kind."


class Checks(NamedTuple):
    """What the maps were checked for.

    Attributes:
        row_sum_error: largest difference of a row's sum from one, over all rows of all layers (mean over heads).
        future: largest attention to a later token; 0 in a causal model.
        logit_difference: largest difference, over the query's tokens, of the logits from those of the model's own pass.
        logit_scale: largest of those logits, to compare with.
    """

    row_sum_error: float
    future: float
    logit_difference: float
    logit_scale: float


class Maps(NamedTuple):
    """Attention of a phrase's tokens to all tokens up to its last.

    Attributes:
        phrase: (layers, heads, tokens), mean over the phrase's tokens.
        each: (layers, heads, phrase's tokens, tokens), or None where it was not asked for.
        rollout: (phrase's tokens, tokens), through all layers.
        checks: of these maps.
    """

    phrase: torch.Tensor
    each: torch.Tensor | None
    rollout: torch.Tensor
    checks: Checks


class Reader:
    """Takes what is wanted of each layer's attention as it passes.

    Rollout is that of Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020): a layer passes on half of
    what its heads attend to on average and half of what stood there, and layers are multiplied.
    """

    def __init__(self, rows: slice, each: bool, width: int, device: torch.device) -> None:
        self.rows = rows
        self.each = each
        self.phrase: list[torch.Tensor] = []
        self.tokens: list[torch.Tensor] = []
        self.rollout = torch.eye(width, device=device)
        self.row_sum_error = self.future = 0.0

    def __call__(self, module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, torch.Tensor | None]) -> Any:
        attended, weights = output  # weights: (1, heads, tokens, tokens), hundreds of MB
        if weights is None:
            raise OnionError(SILENT)
        # A copy: a view would keep the whole layer alive. (heads, phrase's tokens, tokens)
        kept = weights[0, :, self.rows].to("cpu", torch.float32, copy=True)
        self.phrase.append(kept.mean(1))
        if self.each:
            self.tokens.append(kept)
        mean = weights[0].mean(0, dtype=torch.float32)  # (tokens, tokens)
        self.row_sum_error = max(self.row_sum_error, float((mean.sum(-1) - 1).abs().max()))
        self.future = max(self.future, float(mean.triu(1).max()))
        mean.diagonal().add_(1)
        self.rollout = (mean @ self.rollout) / 2
        return attended, None  # the layer would hold on to it while it goes on


def read_attention(model: PreTrainedModel, ids: Sequence[int], rows: slice, each: bool) -> Maps:
    """Attention of the tokens in `rows` of a text, as the model has it now: quantized, with adapters or without.

    One layer's maps are alive at a time.

    Args:
        model: a causal language model, in `eval()`.
        ids: token ids of the text, to the last of `rows`.
        rows: tokens whose attention is wanted.
        each: keep it for each of them too, not only their mean.

    Raises:
        OnionError: the model has no layers with `self_attn` that tell their attention.
    """
    reader = Reader(rows, each, len(ids), model.device)
    usual = logits_of(model, ids, rows)
    with eager(model), hooked(model, reader):
        logits = logits_of(model, ids, rows)
    if not reader.phrase:
        raise OnionError(SILENT)
    checks = Checks(
        row_sum_error=reader.row_sum_error,
        future=reader.future,
        logit_difference=float((logits - usual).abs().max()),
        logit_scale=float(usual.abs().max()),
    )
    tokens = torch.stack(reader.tokens) if each else None
    return Maps(torch.stack(reader.phrase), tokens, reader.rollout[rows].cpu(), checks)


def logits_of(model: PreTrainedModel, ids: Sequence[int], rows: slice) -> torch.Tensor:
    """Logits (tokens in `rows`, vocabulary), in float32."""
    with torch.inference_mode():
        hidden = model.get_decoder()(torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state
        logits: torch.Tensor = model.get_output_embeddings()(hidden[0, rows])
    return logits.float()


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """The model's own eager attention, which tells its maps; the one it had comes back afterwards."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


@contextmanager
def hooked(model: PreTrainedModel, reader: Reader) -> Iterator[None]:
    layers = getattr(model.get_decoder(), "layers", [])
    handles = [layer.self_attn.register_forward_hook(reader) for layer in layers if hasattr(layer, "self_attn")]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
