"""Interventions in the forward pass of a batch, made by forward hooks, one for each row.

Attention knockout is from Geva et al., "Dissecting Recall of Factual Associations in Auto-Regressive Language Models" (2023),
value zeroing from Mohebbi et al., "Quantifying Context Mixing in Transformers" (2023), and restoring the residual stream from
Zhang and Nanda, "Towards Best Practices of Activation Patching in Language Models" (2023).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from onion_lightning.attention.maps import NO_WEIGHTS, decoder_blocks
from onion_lightning.attention.statistics import Span
from onion_lightning.errors import OnionError

__all__ = ["Arguments", "Cut", "Intervention", "Restore", "Streams", "Swap", "intervening", "recording", "stream"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Cut(NamedTuple):
    """Attention knockout: the query does not see a span.

    Attributes:
        span: tokens that are not seen.
        layers: layers in which they are not.
        head: the only head in which they are not; None for all heads.
    """

    span: Span
    layers: range
    head: int | None = None


class Swap(NamedTuple):
    """Other tokens in place of those from `first` on."""

    first: int
    ids: tuple[int, ...]


class Restore(NamedTuple):
    """The residual stream of a span, as it is without any intervention, put back before a layer."""

    span: Span
    layer: int


class Intervention(NamedTuple):
    """What is changed in the forward pass of one row; by default, nothing.

    Attributes:
        cut: attention edges to cut.
        zeroed: span whose value vectors are zero in all layers, for all later tokens.
        swap: tokens to replace.
        restore: residual stream to put back.
    """

    cut: Cut | None = None
    zeroed: Span | None = None
    swap: Swap | None = None
    restore: Restore | None = None


class Streams(NamedTuple):
    """The residual stream before each layer, without any intervention.

    Attributes:
        positions: tokens whose stream was kept, ascending.
        layers: for each layer, (positions, hidden size).
    """

    positions: list[int]
    layers: list[torch.Tensor]

    def before(self, place: Restore) -> torch.Tensor:
        """Return the stream of a span before a layer, (tokens, hidden size)."""
        begin = self.positions.index(place.span.first)
        return self.layers[place.layer][begin : begin + place.span.stop - place.span.first]


class CutHook:
    """Cuts edges in one layer before the softmax, and sees afterwards that nothing was read along them.

    Args:
        cuts: row and cut, for those that concern this layer.
        readers: tokens whose attention is cut.
        offset: position in the text of the first token of the batch.
        heads: number of attention heads.
    """

    def __init__(self, cuts: Sequence[tuple[int, Cut]], readers: Span, offset: int, heads: int) -> None:
        self.heads = heads if any(cut.head is not None for _, cut in cuts) else 1
        self.edges = [(row, *edges(cut, readers, offset)) for row, cut in cuts]

    def cut(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        mask = kwargs.get("attention_mask")  # (rows, 1, length, tokens), added to the scores
        if mask is None or not mask.is_floating_point():
            raise OnionError(NO_WEIGHTS)
        mask = mask.expand(-1, self.heads, -1, -1).clone()
        for row, heads, begin, end, seen in self.edges:
            mask[row, heads, begin:end, seen] = -math.inf
        return args, kwargs | {"attention_mask": mask}

    def check(self, module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, torch.Tensor | None]) -> Any:
        attended, weights = output  # weights: (rows, heads, length, tokens)
        if weights is None:
            raise OnionError(NO_WEIGHTS)
        if any(weights[row, heads, begin:end, seen].any() for row, heads, begin, end, seen in self.edges):
            raise OnionError(f"--effect true: an edge that was cut is still there; {NO_WEIGHTS.partition('; ')[2]}")
        return attended, None


def edges(cut: Cut, readers: Span, offset: int) -> tuple[slice, int, int, slice]:
    """Return the heads, the first and last reader, and the tokens not to be seen, as positions in the batch's mask.

    A reader that is part of the span itself keeps its edges: without them, the query of a key right before it would be cut
    off from the key's own last token, which predicts it.
    """
    heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
    begin = max(readers.first, cut.span.stop)
    return heads, begin - offset, readers.stop - offset, slice(cut.span.first, cut.span.stop)


@contextmanager
def intervening(
    model: PreTrainedModel, rows: Sequence[Intervention], readers: Span, offset: int, streams: Streams | None
) -> Iterator[None]:
    """Change the forward pass of each row of a batch, inside the block. Attention must be eager; `swap` is not made here.

    Args:
        model: a causal language model.
        rows: the interventions.
        readers: tokens whose attention is cut: those that predict the query.
        offset: position in the text of the first token of the batch.
        streams: residual streams to restore from.
    """
    heads = model.config.get_text_config().num_attention_heads
    with ExitStack() as hooks:
        for layer, block in enumerate(decoder_blocks(model)):
            attention = block.self_attn
            cuts = [(row, one.cut) for row, one in enumerate(rows) if one.cut and layer in one.cut.layers]
            if cuts:
                hook = CutHook(cuts, readers, offset, heads)
                hooks.callback(attention.register_forward_pre_hook(hook.cut, with_kwargs=True).remove)
                hooks.callback(attention.register_forward_hook(hook.check).remove)
            zeroed = [(row, one.zeroed) for row, one in enumerate(rows) if one.zeroed]
            if zeroed:
                values, features = value_projection(attention)
                hooks.callback(values.register_forward_hook(zero_values(zeroed, offset, features)).remove)
            restored = [
                (row, one.restore) for row, one in enumerate(rows) if one.restore and one.restore.layer == layer
            ]
            if restored:
                assert streams is not None
                restore = restore_streams(restored, offset, streams)
                hooks.callback(block.register_forward_pre_hook(restore, with_kwargs=True).remove)
        yield


def zero_values(rows: Sequence[tuple[int, Span]], offset: int, features: slice) -> Any:
    """Return a hook that sets the value vectors of a span to zero in each of these rows."""

    def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        values = output.clone()  # (rows, length, features)
        for row, span in rows:
            values[row, span.first - offset : span.stop - offset, features] = 0
        return values

    return hook


def restore_streams(rows: Sequence[tuple[int, Restore]], offset: int, streams: Streams) -> Any:
    """Return a hook that puts the residual stream of a span back in each of these rows."""

    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        hidden = stream(args, kwargs).clone()  # (rows, length, hidden size)
        for row, place in rows:
            hidden[row, place.span.first - offset : place.span.stop - offset] = streams.before(place)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    return hook


@contextmanager
def recording(model: PreTrainedModel, positions: Sequence[int], offset: int) -> Iterator[Streams]:
    """Keep the residual stream of some tokens before each layer, of the batch's first row, inside the block."""
    streams = Streams(sorted(positions), [])
    rows = torch.tensor([position - offset for position in streams.positions], dtype=torch.long, device=model.device)

    def keep(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        streams.layers.append(stream(args, kwargs)[0, rows].clone())

    with ExitStack() as hooks:
        for block in decoder_blocks(model):
            hooks.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        yield streams


def stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the residual stream that a layer was called with, (rows, length, hidden size)."""
    hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def value_projection(attention: Any) -> tuple[torch.nn.Module, slice]:
    """Return the linear layer that computes the values, and which of its features they are.

    Raises:
        OnionError: there is none of a known name.
    """
    if hasattr(attention, "v_proj"):
        return attention.v_proj, slice(None)
    if hasattr(attention, "qkv_proj"):  # Phi-3: queries, keys and values
        config = attention.config
        return attention.qkv_proj, slice(-config.num_key_value_heads * attention.head_dim, None)
    raise OnionError(NO_WEIGHTS)
