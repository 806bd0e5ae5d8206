"""Attention on the tiny model, compared with a computation from its weights; phrases in the wrong order."""

import math

import numpy as np
import pytest
import torch

from onion_lightning.attention.phrase_attention import attend
from onion_lightning.errors import OnionError
from tests.attention.conftest import TEXT


def attention_from_weights(model, ids):
    """Compute the attention of every layer from the weights alone: (layers, heads, tokens, tokens), in float64."""
    config, maps = model.config, []
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    hidden = model.model.embed_tokens.weight[torch.tensor(ids)].double()
    position = torch.arange(len(ids)).double()
    theta = config.rope_parameters["rope_theta"] if hasattr(config, "rope_parameters") else config.rope_theta
    angle = position[:, None] / theta ** (torch.arange(0, size, 2).double() / size)  # (tokens, size / 2)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

    def rms_norm(x, norm):
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * norm.weight.double()

    def rotate(x):  # (heads, tokens, size)
        half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
        return x * cos + half * sin

    for layer in model.model.layers:
        x, a = rms_norm(hidden, layer.input_layernorm), layer.self_attn
        q, k, v = ((x @ w.weight.double().T) for w in (a.q_proj, a.k_proj, a.v_proj))
        q = rotate(q.view(len(ids), heads, size).transpose(0, 1))
        k = rotate(k.view(len(ids), groups, size).transpose(0, 1)).repeat_interleave(heads // groups, 0)
        v = v.view(len(ids), groups, size).transpose(0, 1).repeat_interleave(heads // groups, 0)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -math.inf)
        weights = scores.softmax(-1)
        maps.append(weights)
        hidden = hidden + (weights @ v).transpose(0, 1).reshape(len(ids), -1) @ a.o_proj.weight.double().T
        x, m = rms_norm(hidden, layer.post_attention_layernorm), layer.mlp
        gate, up = x @ m.gate_proj.weight.double().T, x @ m.up_proj.weight.double().T
        hidden = hidden + (gate * gate.sigmoid() * up) @ m.down_proj.weight.double().T
    return torch.stack(maps).detach()


def test_statistics_equal_those_computed_from_the_weights(base, result):
    ids = [token.id for token in result.tokens[: result.query.stop]]
    maps = attention_from_weights(base, ids)
    query, key = slice(result.query.first, result.query.stop), slice(result.key.first, result.key.stop)
    statistics = result.heads["base"]
    share = maps[:, :, query, key].sum(-1).mean(-1)
    np.testing.assert_allclose(statistics.key_share, share, atol=1e-5)
    np.testing.assert_allclose(statistics.first_token_share, maps[:, :, query, 0].mean(-1), atol=1e-5)
    controls = torch.stack([maps[:, :, query, a:b].sum(-1).mean(-1) for a, b in result.controls])
    np.testing.assert_allclose(statistics.control_mean, controls.mean(0), atol=1e-5)
    np.testing.assert_allclose(statistics.z_score, (share - controls.mean(0)) / controls.std(0), rtol=1e-2)
    half = [(layer.mean(0) + torch.eye(len(ids))) / 2 for layer in maps]
    rollout = (half[1] @ half[0])[query]
    np.testing.assert_allclose(result.maps["base"].rollout, rollout, atol=1e-5)
    np.testing.assert_allclose(result.rollout["base"].key_share, rollout[:, key].sum(-1).mean(), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "key", "message"),
    [
        ("town council", "fog", "swap the two, or give a later phrase"),
        ("Eggville", "mayor", 'give --query "Eggville#2"'),
        ("council of", "town council", 'occurs before the end of --key "town council"'),
        ("town council", "council", "the two overlap: give a later phrase"),
        ("n", "ow", 'give --query "n#2"'),  # both are parts of one token
        ("eggville", "town", 'most similar phrases are "Eggville"'),
        ("Eggville", "Town", '--key "Town"'),
    ],
)
def test_phrases_that_are_missing_or_in_the_wrong_order_are_rejected(base, tokenizer, query, key, message):
    with pytest.raises(OnionError) as error:
        attend(base, tokenizer, TEXT, query, key)
    assert message in str(error.value)


def test_a_query_beyond_the_models_context_is_rejected_but_text_after_the_query_is_not(base, tokenizer):
    long = " egg" * 600
    with pytest.raises(OnionError, match="context of 512 tokens"):
        attend(base, tokenizer, "The town" + long + " ended", "ended", "town")
    assert attend(base, tokenizer, "The town ended" + long, "ended", "town").query.stop < 20
