"""Rows that are run one after another, without padding."""

import pytest
import torch

from onion_lightning.model.packed_rows import pack_rows, packed_hidden_states
from onion_lightning.private_api import attention_implementation
from tests.families import FAMILIES, build_family

SMALL = {"vocab_size": 100, "num_hidden_layers": 4, "eos_token_id": 2, "pad_token_id": 0}
LAYER_TYPES = ["sliding_attention"] * 3 + ["full_attention"]
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
# family, and what differs in its config; first each family as it is
MODELS = {name: (name, {}) for name in FAMILIES} | {
    # its rotary embedding changes for all rows if a position reaches the context length
    "llama with a context of 24": ("llama", {"max_position_embeddings": 24, "rope_parameters": DYNAMIC}),
    "mistral with a window of 8": ("mistral", {"sliding_window": 8}),
    "qwen3 with wide heads": ("qwen3", {"head_dim": 128}),
    "gemma3 with a window of 8 in some layers": ("gemma3", {"sliding_window": 8}),
}
LENGTHS = [20, 1, 10]
IDS = torch.randint(1, 100, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))


def build(name):
    family, more = MODELS[name]
    layers = {"layer_types": LAYER_TYPES} if family == "gemma3" else {}  # one for each of the four layers
    return build_family(family, **SMALL | layers | more).eval()


def one_by_one(model):
    rows = [model.get_decoder()(input_ids=row[None], use_cache=False) for row in IDS.split(LENGTHS)]
    return torch.cat([row.last_hidden_state[0] for row in rows])


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_the_hidden_states_that_it_has_alone(name):
    model = build(name)
    alone = one_by_one(model)
    padded = packed_hidden_states(model, IDS, LENGTHS)  # a model that was not prepared
    pack_rows(model)
    packed = packed_hidden_states(model, IDS, LENGTHS)
    assert packed.shape == (sum(LENGTHS), 64)
    torch.testing.assert_close(padded, alone)
    torch.testing.assert_close(packed, alone)


@pytest.mark.parametrize("name", MODELS)
def test_a_prepared_model_computes_and_writes_what_it_did_before(name):
    model = build(name)
    asked = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])}
    before, text = one_by_one(model), model.generate(IDS[:8].view(2, 4), **asked)
    pack_rows(model)
    assert attention_implementation(model) == "onion_packed"
    assert torch.equal(one_by_one(model), before)
    assert torch.equal(model.generate(IDS[:8].view(2, 4), **asked), text)


def test_a_layer_gets_the_tokens_of_the_rows_and_no_others():
    model, seen = build("llama"), []
    pack_rows(model)
    model.model.layers[1].mlp.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    packed_hidden_states(model, IDS, LENGTHS)
    assert seen == [(1, sum(LENGTHS), 64)]


@pytest.mark.parametrize("name", ["llama", "mistral with a window of 8"])
def test_checkpointing_recomputes_the_same_rows(name):
    gradients = []
    for checkpointing in (False, True):
        model = build(name).train()
        pack_rows(model)
        if checkpointing:
            model.enable_input_require_grads()
            model.activation_checkpointing_enable({"use_reentrant": False})
        packed_hidden_states(model, IDS, LENGTHS).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_row_gets_no_gradient_from_another():
    model = build("llama")
    pack_rows(model)
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model.set_input_embeddings(torch.nn.Identity())
    model.get_decoder().embed_tokens.forward = lambda ids: embedded[None]
    packed_hidden_states(model, IDS, LENGTHS)[20:21].sum().backward()  # of the row of one token
    moved = embedded.grad.abs().sum(1).nonzero().flatten().tolist()
    assert moved == [20]


def test_a_model_that_mixes_tokens_outside_of_attention_is_padded():
    model = build("llama")
    model.config.layer_types = ["conv", "full_attention", "conv", "full_attention"]
    pack_rows(model)
    assert attention_implementation(model) == "sdpa"


def test_a_model_with_its_own_attention_is_padded():
    model = build("llama")
    model.set_attn_implementation("eager")
    pack_rows(model)
    assert attention_implementation(model) == "eager"
    torch.testing.assert_close(packed_hidden_states(model, IDS, LENGTHS), one_by_one(model))
