"""Floating-point operations, counted by hand."""

import pytest
import torch

from onion_lightning.planning.flops import FlopCount
from onion_lightning.planning.memory import predict_memory
from onion_lightning.pretrained.locate import load_config

# Weights of the tiny model: hidden size 64, MLP of 128, two layers, 4 heads and 2 key-value heads of size 16, 600 tokens.
PROJECTIONS = 64 * 64 + 2 * 64 * 32 + 64 * 64  # q, k and v, o
MLP = 3 * 64 * 128
HEAD = 64 * 600
ADAPTER = 8 * (64 + 64)  # rank 8 on q


def predict(base, rows: int, length: int, **changes):
    flags = {
        "load_in": "int8",
        "precision": "32-true",
        "lora_rank": 8,
        "target_modules": ["q_proj"],
        "lora_dropout": 0.0,
    }
    flags |= {"gradient_checkpointing": False, "rows": rows, "length": length, "device_type": "cpu"}
    return predict_memory(load_config(str(base)), **flags | changes)


def test_a_product_takes_two_operations_for_each_pair_of_factors():
    one, two = torch.ones(3, 5), torch.ones(5, 7)
    with FlopCount() as count:
        one @ two
        torch.addmm(torch.ones(7), one, two)
        torch.bmm(torch.ones(4, 3, 5), torch.ones(4, 5, 7))
        one + 1
    assert (count.products, count.attention) == (2 * 3 * 5 * 7 * 6, 0)


def test_attention_takes_two_products_forward_and_five_backward():
    query, key, value = (torch.ones(2, 4, 10, 16, requires_grad=True) for _ in range(3))
    with FlopCount() as count:
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        assert count.attention == 2 * 2 * (2 * 4 * 10 * 10 * 16)
        output.sum().backward()
    assert count.attention == 7 * 2 * (2 * 4 * 10 * 10 * 16)


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize(("rows", "length"), [(1, 40), (3, 40), (2, 20)])
def test_a_step_takes_the_operations_counted_by_hand(tiny_base, load_in, rows, length):
    """No gradient reaches the input of the first layer, and frozen weights have none."""
    plan = predict(tiny_base, rows, length, load_in=load_in)
    forward = 2 * (PROJECTIONS + MLP + ADAPTER)
    backward = (64 * 64 + MLP) + (PROJECTIONS + MLP)  # of the first layer, only o and the MLP
    adapters = (
        2 * ADAPTER + 2 * 8 * 64 + 8 * 64
    )  # of the weights, between A and B, and of the input of the second layer
    supervised = rows * (length - 1)
    tokens = rows * length
    assert plan.products == 2 * (tokens * (forward + backward + adapters) + supervised * 2 * HEAD)
    assert plan.attention == 2 * 7 * 2 * rows * 64 * length**2


def test_checkpointing_computes_most_of_the_forward_pass_again(tiny_base):
    without, checkpointed = (predict(tiny_base, 2, 40, gradient_checkpointing=on) for on in (False, True))
    again = checkpointed.products - without.products
    assert 2 * 80 * 2 * (PROJECTIONS + 2 * 64 * 128) <= again <= 2 * 80 * 2 * (PROJECTIONS + MLP + ADAPTER)
    assert checkpointed.attention - without.attention == 2 * 2 * 2 * 2 * 64 * 40**2


def test_parameters_are_counted_as_if_the_weights_were_not_quantized(tiny_base):
    norms = 5 * 64
    expected = 2 * (PROJECTIONS + MLP) + 2 * HEAD + norms
    for load_in in ("int8", "nf4", "none"):
        plan = predict(tiny_base, 1, 8, load_in=load_in)
        assert (plan.parameters, plan.trainable, plan.trained_tensors) == (expected, 2 * ADAPTER, 4)
