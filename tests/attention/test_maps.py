"""Attention maps of the loaded model: their values, their checks, and the memory they take."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from onion_lightning.attention.effects.experiment import EffectSettings
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import load_model
from onion_lightning.private_api import attention_implementation
from tests.attention.conftest import KEY, QUERY, TEXT


def test_maps_equal_those_of_the_loaded_8_bit_model_with_its_adapters(tuned):
    # Shares are rounded once; logits accumulate the rounding of every layer.
    share_error, logit_error = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (4e-3, 6e-2)}[tuned.language_model.dtype]
    before = attention_implementation(tuned.language_model)
    result = attend(tuned.model, tuned.tokenizer, TEXT, QUERY, KEY)
    for maps in result.maps.values():
        assert maps.checks.row_sum_error < share_error
        assert maps.checks.future == 0.0
        assert maps.checks.logit_difference < logit_error * maps.checks.logit_scale
    assert np.abs(result.heads["tuned"].key_share - result.heads["base"].key_share).max() > 1e-3
    ids = torch.tensor([[token.id for token in result.tokens]])
    language_model = tuned.language_model
    assert attention_implementation(language_model) == before
    language_model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = language_model(ids, output_attentions=True).attentions  # whole text: later tokens change nothing
    language_model.set_attn_implementation(before)
    rows = slice(result.query.first, result.query.stop)
    expected = torch.stack([layer[0, :, rows, : result.query.stop].float().mean(1) for layer in attentions])
    np.testing.assert_allclose(result.maps["tuned"].mean, expected, atol=1e-5)
    np.testing.assert_allclose(result.maps["tuned"].per_token.mean(2), expected, atol=1e-5)


def test_attention_that_is_not_finite_is_rejected(tokenizer, tiny_base):
    broken = load_model(str(tiny_base), "none", torch.device("cpu"), torch.float32)
    with torch.no_grad():
        broken.model.layers[1].self_attn.q_proj.weight[0, 0] = math.inf
    with pytest.raises(OnionError, match=r"weights failed a check \(row sums differ from 1 by up to nan"):
        attend(broken, tokenizer, TEXT, QUERY, KEY)


def test_a_model_that_returns_no_attention_weights_is_rejected(tokenizer, tiny_base):
    model = load_model(str(tiny_base), "none", torch.device("cpu"), torch.float32)
    model.model.layers = torch.nn.ModuleList(torch.nn.Sequential() for _ in range(0))
    for effect in (None, EffectSettings()):
        with pytest.raises(OnionError, match="does not return attention weights"):
            attend(model, tokenizer, TEXT, QUERY, KEY, effect=effect)


def peak_growth(action):
    """Return by how many bytes this process's memory grows at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    kilobytes = re.compile(r"VmHWM:\s+(\d+)")
    before = int(kilobytes.search(Path("/proc/self/status").read_text())[1])
    action()
    return 1024 * (int(kilobytes.search(Path("/proc/self/status").read_text())[1]) - before)


def test_only_the_rows_of_the_query_are_kept_in_memory(tokenizer):
    config = LlamaConfig(
        vocab_size=600, hidden_size=64, intermediate_size=64, num_hidden_layers=16, num_attention_heads=16
    )
    model = LlamaForCausalLM(config).eval()
    text = "The town" + " egg" * 350 + " ended"
    attend(model, tokenizer, "The town ended", "ended", "town")  # loads whatever is loaded on first use
    results = []
    growth = peak_growth(lambda: results.append(attend(model, tokenizer, text, "ended", "town")))
    tokens = results[0].query.stop
    assert tokens > 1400
    one_layer = 4 * 16 * tokens**2
    assert growth < 5 * one_layer  # all layers would be sixteen
