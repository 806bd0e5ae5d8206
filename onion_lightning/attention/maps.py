"""Runs a model with eager attention and reads its attention weights layer by layer, keeping only the query's rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Heartbeat, log_line
from onion_lightning.private_api import attention_implementation

__all__ = ["NO_WEIGHTS", "AttentionMaps", "MapChecks", "decoder_blocks", "eager_attention", "read_attention"]

NO_WEIGHTS = (
    "--model.base_model: the model does not return attention weights; give a model with Llama's layer structure."
)

# Larger deviations than these cannot be explained by 16-bit rounding.
MAX_ROW_SUM_ERROR = 2e-2
MAX_LOGIT_DIFFERENCE = 0.25  # relative


class MapChecks(NamedTuple):
    """Deviations of the attention maps from what a causal model must satisfy.

    Attributes:
        row_sum_error: largest deviation of a row sum from 1, over all rows of all layers (mean over heads).
        future: largest attention weight on a later token; 0 in a causal model.
        logit_difference: largest absolute difference, over the query's tokens, between the logits of the eager pass and
            those of a pass with the model's default attention implementation.
        logit_scale: largest absolute logit of the default pass.
    """

    row_sum_error: float
    future: float
    logit_difference: float
    logit_scale: float

    @property
    def relative_logit_difference(self) -> float:
        return self.logit_difference / self.logit_scale


class AttentionMaps(NamedTuple):
    """Attention from the query's tokens to all tokens up to the query's last.

    Attributes:
        mean: (layers, heads, tokens), mean over the query's tokens.
        per_token: (layers, heads, query tokens, tokens), or None if only the mean was kept.
        rollout: (query tokens, tokens), attention rollout over all layers.
        checks: deviations measured while the maps were read.
    """

    mean: torch.Tensor
    per_token: torch.Tensor | None
    rollout: torch.Tensor
    checks: MapChecks


class AttentionReader:
    """A forward hook for every attention layer that keeps the query's rows and extends the attention rollout.

    Attention rollout is defined by Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020): the matrices
    of all layers are multiplied, each of them half the mean attention of the layer's heads and half the identity, which
    stands for the residual connection.

    Args:
        rows: the query's tokens.
        per_token: keep the attention of each query token, not only the mean.
        width: number of tokens.
        layers: number of layers.
        device: device of the model.
    """

    def __init__(self, rows: slice, per_token: bool, width: int, layers: int, device: torch.device) -> None:
        self.rows = rows
        self.keep_per_token = per_token
        self.width = width
        self.layers = layers
        self.layers_read = 0
        self.mean = self.per_token = torch.empty(0)
        self.rollout = torch.eye(width, device=device)
        self.buffer = torch.empty_like(self.rollout)
        self.row_sum_error = self.future = torch.zeros((), device=device)

    def __call__(self, module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, torch.Tensor | None]) -> Any:
        attended, weights = output  # weights: (1, heads, tokens, tokens), hundreds of MB
        if weights is None:
            raise OnionError(NO_WEIGHTS)
        self.keep_rows(weights[0])
        mean = weights[0].mean(0, dtype=torch.float32)  # (tokens, tokens)
        # Unlike `max` in Python, `maximum` propagates NaN.
        self.row_sum_error = torch.maximum(self.row_sum_error, (mean.sum(-1) - 1).abs().max())
        self.future = torch.maximum(self.future, mean.triu(1).max())
        self.extend_rollout(mean)
        return attended, None  # otherwise the weights stay alive until the layer's own forward returns

    def keep_rows(self, weights: torch.Tensor) -> None:
        """Keep the query's rows of a layer's weights (heads, tokens, tokens)."""
        if self.layers_read == 0:
            self.allocate(weights.shape[0])
        rows = weights[:, self.rows].float()  # (heads, query tokens, tokens)
        self.mean[self.layers_read] = rows.mean(1)
        if self.keep_per_token:
            self.per_token[self.layers_read] = rows
        self.layers_read += 1

    def allocate(self, heads: int) -> None:
        """Allocate all results at once: allocated between large temporaries, they fragment the heap by 25 MB per layer."""
        self.mean = torch.empty(self.layers, heads, self.width)
        count = self.rows.stop - self.rows.start if self.keep_per_token else 0
        self.per_token = torch.empty(self.layers, heads, count, self.width)

    def extend_rollout(self, mean: torch.Tensor) -> None:
        """Multiply the rollout by a layer's mean attention (tokens, tokens), which is changed in place."""
        mean.diagonal().add_(1)
        torch.matmul(mean, self.rollout, out=self.buffer).div_(2)
        self.rollout, self.buffer = self.buffer, self.rollout


def read_attention(model: PreTrainedModel, ids: Sequence[int], rows: slice, per_token: bool) -> AttentionMaps:
    """Return the attention of the tokens in `rows`, with the model's weights as they are (quantized, adapters on or off).

    Only one layer's full attention matrix is in memory at a time.

    Args:
        model: a causal language model in `eval()` mode.
        ids: token ids of the text, up to the last token of `rows`.
        rows: tokens whose attention is returned.
        per_token: return the attention of each of these tokens, not only their mean.

    Raises:
        OnionError: the model does not return attention weights, or the weights fail the checks.
    """
    layers = attention_layers(model)
    reader = AttentionReader(rows, per_token, len(ids), len(layers), model.device)
    log_line(f"reading the attention of {len(ids)} tokens in {len(layers)} layers")
    with Heartbeat(lambda: f"reading attention: {reader.layers_read} of {len(layers)} layers"):
        default_logits = compute_logits(model, ids, rows)
        with eager_attention(model), forward_hooks(layers, reader):
            logits = compute_logits(model, ids, rows)
    assert reader.layers_read == len(layers)
    checks = MapChecks(
        row_sum_error=float(reader.row_sum_error),
        future=float(reader.future),
        logit_difference=float((logits - default_logits).abs().max()),
        logit_scale=float(default_logits.abs().max()),
    )
    enforce(checks)
    return AttentionMaps(reader.mean, reader.per_token if per_token else None, reader.rollout[rows].cpu(), checks)


def enforce(checks: MapChecks) -> None:
    """Reject attention maps that are not those of the model's own forward pass.

    Raises:
        OnionError: rows do not sum to 1, later tokens receive attention, or the logits differ from the default pass.
    """
    valid = checks.row_sum_error < MAX_ROW_SUM_ERROR and checks.future == 0
    if not (valid and checks.relative_logit_difference < MAX_LOGIT_DIFFERENCE):
        raise OnionError(
            f"--model.base_model: the attention weights failed a check (row sums differ from 1 by up to"
            f" {checks.row_sum_error:.0e}, later tokens receive up to {checks.future:.0e}, logits differ from those of the"
            f" default attention by {checks.relative_logit_difference:.0e}): a value overflowed or the model is not causal;"
            " try --model.load_in none, or give another model."
        )


def compute_logits(model: PreTrainedModel, ids: Sequence[int], rows: slice) -> torch.Tensor:
    """Return the logits (tokens in `rows`, vocabulary) in float32."""
    with torch.inference_mode():
        hidden = model.get_decoder()(torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state
        logits: torch.Tensor = model.get_output_embeddings()(hidden[0, rows])
    return logits.float()


def attention_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Return the `self_attn` module of each layer that has one."""
    return [block.self_attn for block in decoder_blocks(model)]


def decoder_blocks(model: PreTrainedModel) -> list[Any]:
    """Return the layers that have attention.

    Raises:
        OnionError: there are none.
    """
    found = [layer for layer in getattr(model.get_decoder(), "layers", []) if hasattr(layer, "self_attn")]
    if not found:
        raise OnionError(NO_WEIGHTS)
    return found


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Switch to eager attention, the only implementation that returns its weights, and back on exit."""
    default = attention_implementation(model)
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(default)


@contextmanager
def forward_hooks(layers: Sequence[torch.nn.Module], reader: AttentionReader) -> Iterator[None]:
    handles = [layer.register_forward_hook(reader) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
