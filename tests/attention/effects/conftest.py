"""A model built by hand, in which one head of the first layer copies a token, and a text for it."""

from typing import NamedTuple

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from onion_lightning.attention.effects.experiment import Spans
from onion_lightning.attention.statistics import Span

SIZE, HEADS, COPYING = 16, 4, 2  # vocabulary and head size; heads; the head that copies
KEY, ASKING = 5, 6  # the token that is copied, and the one at which it is


class Copier(NamedTuple):
    """The model, token ids of a text, and its spans: the last token but three is the copy of the key."""

    model: LlamaForCausalLM
    ids: list[int]
    spans: Spans


@pytest.fixture
def copier() -> Copier:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=HEADS * SIZE,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()  # heads look and read at random, but nothing comes out of them
        model.model.embed_tokens.weight.zero_()[:, :SIZE] = torch.eye(SIZE)
        model.lm_head.weight.zero_()[:, SIZE : 2 * SIZE] = 0.8 * torch.eye(
            SIZE
        )  # the copy gets a probability near 1, but not 1
        attention, rows = model.model.layers[0].self_attn, slice(COPYING * SIZE, (COPYING + 1) * SIZE)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight[rows] = 0
        slow = rows.start + SIZE // 2 - 1  # the rotary embedding hardly turns this feature
        attention.q_proj.weight[slow, ASKING] = attention.k_proj.weight[slow, KEY] = 2
        attention.v_proj.weight[rows, :SIZE] = torch.eye(SIZE)
        attention.o_proj.weight[SIZE : 2 * SIZE, rows] = torch.eye(SIZE)
    before, between = [1, 2, 3, 4] * 5, [7, 8, 9, 10, 11]
    ids = [0, *before, KEY, *between, ASKING, KEY, 12, 13, 14]
    key, query = 1 + len(before), len(ids) - 4
    controls = [Span(at, at + 1) for at in range(1, query - 1) if at != key]
    return Copier(model, ids, Spans(Span(query, query + 1), Span(key, key + 1), controls))
