"""Rows that are run one after another, without padding."""

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from onion_lightning.model.packed_rows import pack_rows, packed_hidden_states
from onion_lightning.private_api import attention_implementation

SHAPE = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    # its rotary embedding changes for all rows if a position reaches the context length
    "llama with a context of 24": (
        LlamaForCausalLM,
        LlamaConfig,
        {"max_position_embeddings": 24, "rope_parameters": DYNAMIC},
    ),
    "mistral with a window": (MistralForCausalLM, MistralConfig, {"sliding_window": 8}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "gemma3 with a window in some layers": (Gemma3ForCausalLM, Gemma3TextConfig, {"sliding_window": 8, "head_dim": 16}),
    "phi3": (Phi3ForCausalLM, Phi3Config, {}),
}
LENGTHS = [20, 1, 10]
IDS = torch.randint(1, 100, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))


def family(name):
    model, config, more = FAMILIES[name]
    torch.manual_seed(0)
    return model(config(**SHAPE | more)).eval()


def one_by_one(model):
    rows = [model.get_decoder()(input_ids=row[None], use_cache=False) for row in IDS.split(LENGTHS)]
    return torch.cat([row.last_hidden_state[0] for row in rows])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_has_the_hidden_states_that_it_has_alone(name):
    model = family(name)
    alone = one_by_one(model)
    padded = packed_hidden_states(model, IDS, LENGTHS)  # a model that was not prepared
    pack_rows(model)
    packed = packed_hidden_states(model, IDS, LENGTHS)
    assert packed.shape == (sum(LENGTHS), 64)
    torch.testing.assert_close(padded, alone)
    torch.testing.assert_close(packed, alone)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prepared_model_computes_and_writes_what_it_did_before(name):
    model = family(name)
    asked = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])}
    before, text = one_by_one(model), model.generate(IDS[:8].view(2, 4), **asked)
    pack_rows(model)
    assert attention_implementation(model) == "onion_packed"
    assert torch.equal(one_by_one(model), before)
    assert torch.equal(model.generate(IDS[:8].view(2, 4), **asked), text)


def test_a_layer_gets_the_tokens_of_the_rows_and_no_others():
    model, seen = family("llama"), []
    pack_rows(model)
    model.model.layers[1].mlp.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    packed_hidden_states(model, IDS, LENGTHS)
    assert seen == [(1, sum(LENGTHS), 64)]


@pytest.mark.parametrize("name", ["llama", "mistral with a window"])
def test_checkpointing_recomputes_the_same_rows(name):
    gradients = []
    for checkpointing in (False, True):
        model = family(name).train()
        pack_rows(model)
        if checkpointing:
            model.enable_input_require_grads()
            model.activation_checkpointing_enable({"use_reentrant": False})
        packed_hidden_states(model, IDS, LENGTHS).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_row_gets_no_gradient_from_another():
    model = family("llama")
    pack_rows(model)
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model.set_input_embeddings(torch.nn.Identity())
    model.get_decoder().embed_tokens.forward = lambda ids: embedded[None]
    packed_hidden_states(model, IDS, LENGTHS)[20:21].sum().backward()  # of the row of one token
    moved = embedded.grad.abs().sum(1).nonzero().flatten().tolist()
    assert moved == [20]


def test_a_model_that_mixes_tokens_outside_of_attention_is_padded():
    model = family("llama")
    model.config.layer_types = ["conv", "full_attention", "conv", "full_attention"]
    pack_rows(model)
    assert attention_implementation(model) == "sdpa"


def test_a_model_with_its_own_attention_is_padded():
    model = family("llama")
    model.set_attn_implementation("eager")
    pack_rows(model)
    assert attention_implementation(model) == "eager"
    torch.testing.assert_close(packed_hidden_states(model, IDS, LENGTHS), one_by_one(model))
