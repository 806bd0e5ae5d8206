"""Reading a model's attention from the eager pass of the model itself, layer by layer, keeping only the rows of a phrase."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError

__all__ = ["Checks", "Maps", "read_attention"]

SILENT = "--model.base_model: its layers tell no attention; take a model of Llama's kind."

ROW_SUM, LOGITS = 2e-2, 0.25  # differences that even 16-bit arithmetic does not explain


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

    def __init__(self, rows: slice, each: bool, width: int, layers: int, device: torch.device) -> None:
        self.rows = rows
        self.each = each
        self.width = width
        self.layers = layers
        self.read = 0  # layers
        self.phrase = self.tokens = torch.empty(0)
        self.rollout = torch.eye(width, device=device)
        self.spare = torch.empty_like(self.rollout)
        self.row_sum_error = self.future = torch.zeros((), device=device)

    def make_room(self, heads: int) -> None:
        """Allocate what is kept, at once: pieces of it between large tensors would split the heap, 25 MB a layer."""
        self.phrase = torch.empty(self.layers, heads, self.width)
        count = self.rows.stop - self.rows.start if self.each else 0
        self.tokens = torch.empty(self.layers, heads, count, self.width)

    def __call__(self, module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, torch.Tensor | None]) -> Any:
        attended, weights = output  # weights: (1, heads, tokens, tokens), hundreds of MB
        if weights is None:
            raise OnionError(SILENT)
        if self.read == 0:
            self.make_room(weights.shape[1])
        kept = weights[0, :, self.rows].float()  # (heads, phrase's tokens, tokens)
        self.phrase[self.read] = kept.mean(1)
        if self.each:
            self.tokens[self.read] = kept
        self.read += 1
        mean = weights[0].mean(0, dtype=torch.float32)  # (tokens, tokens)
        # `maximum` keeps what is not a number.
        self.row_sum_error = torch.maximum(self.row_sum_error, (mean.sum(-1) - 1).abs().max())
        self.future = torch.maximum(self.future, mean.triu(1).max())
        mean.diagonal().add_(1)
        torch.matmul(mean, self.rollout, out=self.spare).div_(2)
        self.rollout, self.spare = self.spare, self.rollout
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
    layers = attending(model)
    reader = Reader(rows, each, len(ids), len(layers), model.device)
    usual = logits_of(model, ids, rows)
    with eager(model), hooked(layers, reader):
        logits = logits_of(model, ids, rows)
    assert reader.read == len(layers)
    checks = Checks(
        row_sum_error=float(reader.row_sum_error),
        future=float(reader.future),
        logit_difference=float((logits - usual).abs().max()),
        logit_scale=float(usual.abs().max()),
    )
    enforce(checks)
    return Maps(reader.phrase, reader.tokens if each else None, reader.rollout[rows].cpu(), checks)


def enforce(checks: Checks) -> None:
    """Refuse maps that are not those of the model's own pass.

    Raises:
        OnionError: rows do not sum to one, something is seen of the future, or the logits are others.
    """
    off = checks.logit_difference / checks.logit_scale
    if not (checks.row_sum_error < ROW_SUM and checks.future == 0 and off < LOGITS):
        raise OnionError(
            f"--model.base_model: its attention cannot be told (rows sum to 1 within {checks.row_sum_error:.0e}, up to"
            f" {checks.future:.0e} goes to later tokens, logits are the usual ones within {off:.0e}); a value overflowed, or"
            " the model is not causal: try --model.load_in none, or another model."
        )


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


def attending(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The attention of each layer that has one."""
    layers = getattr(model.get_decoder(), "layers", [])
    found = [layer.self_attn for layer in layers if hasattr(layer, "self_attn")]
    if not found:
        raise OnionError(SILENT)
    return found


@contextmanager
def hooked(layers: Sequence[torch.nn.Module], reader: Reader) -> Iterator[None]:
    handles = [layer.register_forward_hook(reader) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
