"""Runs rows of different lengths through a decoder one after another, as one row without padding.

All layers but attention treat tokens one by one. Attention is computed row by row, so a row's hidden states are those that it
has alone, up to rounding in matrix products.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from onion_lightning.private_api import attention_implementation

__all__ = ["attends_only", "hidden_states", "noisy_embeddings", "pack_rows", "packed_hidden_states"]

PACKED = "onion_packed"


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    row_lengths: Sequence[int] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to earlier tokens of the same row; without `row_lengths`, as transformers does.

    Args:
        module: attention layer.
        query: (1, heads, tokens, head size).
        key: (1, key-value heads, tokens, head size).
        value: as `key`.
        attention_mask: ignored if there are `row_lengths`.
        row_lengths: number of tokens of each row.
        options: of transformers' attention functions.

    Returns:
        (1, tokens, heads, head size), and no attention weights.
    """
    if row_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    parts = zip(*(tensor.split(list(row_lengths), dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        sdpa_attention_forward(module, q, k, v, window(q, options.get("sliding_window")), **options)[0]
        for q, k, v in parts
    ]
    return torch.cat(outputs, dim=1), None


def window(query: torch.Tensor, size: int | None) -> torch.Tensor | None:
    """Return the mask of a row whose tokens see only the latest `size` ones; None if they see all earlier ones."""
    length = query.shape[2]
    if size is None or size >= length:
        return None  # torch's fastest kernels accept no mask
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - size)
    return seen[None, None]


def pack_rows(model: PreTrainedModel) -> None:
    """Prepare a model for `packed_hidden_states`, in place; what else it computes does not change.

    A model whose layers mix tokens by other means than torch's attention, such as convolutions, is left as it is, and its
    rows are padded.
    """
    packs = attends_only(model.config) and model.is_backend_compatible()
    if packs and attention_implementation(model) == "sdpa":
        AttentionInterface.register(PACKED, row_attention)
        AttentionMaskInterface.register(PACKED, sdpa_mask)
        model.set_attn_implementation(PACKED)


def attends_only(config: PretrainedConfig) -> bool:
    """Return whether tokens are mixed by attention alone. The rows of other models are padded."""
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or [])
    return kinds <= {"full_attention", "sliding_attention"}


@contextlib.contextmanager
def noisy_embeddings(model: PreTrainedModel, row_lengths: Sequence[int], alpha: float) -> Iterator[None]:
    """Add uniform noise to the embeddings of rows, inside the block (NEFTune, Jain et al. 2023).

    A value of a row of n tokens and d features gets noise between -alpha / sqrt(n d) and alpha / sqrt(n d).

    Args:
        model: a causal language model; its embeddings are those of packed rows, or of rows padded on the right.
        row_lengths: number of tokens of each row, on the host.
        alpha: 0 adds nothing.
    """

    def add_noise(layer: torch.nn.Module, inputs: Any, embeddings: torch.Tensor) -> torch.Tensor:
        rows, tokens, features = embeddings.shape  # one row, if they are packed
        bounds = [alpha / math.sqrt(length * features) for length in row_lengths]
        spans = zip(bounds, [tokens] * rows if rows == len(row_lengths) else row_lengths, strict=True)
        bound = torch.cat([embeddings.new_full((span, 1), value) for value, span in spans]).view(rows, tokens, 1)
        return embeddings + bound * (2 * torch.rand_like(embeddings) - 1)

    if alpha == 0:
        yield
        return
    handle = model.get_input_embeddings().register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()


def packed_hidden_states(model: PreTrainedModel, input_ids: torch.Tensor, row_lengths: Sequence[int]) -> torch.Tensor:
    """Return the last hidden states of rows, (tokens, hidden size).

    Args:
        model: a causal language model.
        input_ids: token ids of all rows, one row after another; (tokens,).
        row_lengths: number of tokens of each row, on the host.
    """
    decoder = model.get_decoder()
    if attention_implementation(model) != PACKED:
        rows = input_ids.split(list(row_lengths))
        ids = pad_sequence(rows, batch_first=True)  # (rows, longest row)
        masks = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        padded = decoder(input_ids=ids, attention_mask=masks, use_cache=False).last_hidden_state
        return torch.cat([states[:length] for states, length in zip(padded, row_lengths, strict=True)])
    positions = torch.cat([torch.arange(length, device=input_ids.device) for length in row_lengths])
    output = decoder(
        input_ids=input_ids[None],
        position_ids=positions[None],
        # transformers builds no mask where it is given one with four dimensions: it would wait for the GPU, and be quadratic.
        attention_mask=torch.empty(1, 1, 1, 1, device=input_ids.device),
        use_cache=False,
        row_lengths=tuple(row_lengths),
    )
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Return the last hidden states (rows, length, hidden size) of token ids (rows, length), padded on the right."""
    rows, length = input_ids.shape
    return packed_hidden_states(model, input_ids.flatten(), [length] * rows).view(rows, length, -1)
