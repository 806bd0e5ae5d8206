"""Keys and values that are continued in several ways."""

import pytest
import torch

from onion_lightning.model.prefix import Prefix
from tests.conftest import module


def states(cache):
    return [tensor.clone() for layer in cache.layers for tensor in (layer.keys, layer.values)]


@pytest.mark.parametrize("inference", [False, True])
def test_continuing_a_prefix_leaves_its_keys_and_values_unmodified(tiny_base, inference):
    model = module(tiny_base).eval().language_model
    with torch.inference_mode(inference), torch.no_grad():
        prefix = Prefix(model, [[1, 30, 40], [1, 50, 60]])
        before = states(prefix.cache)
        first = prefix.continued([1, 0, 1], torch.tensor([[7, 8], [7, 8], [9, 8]]))
        second = prefix.continued([1, 0, 1], torch.tensor([[7, 8], [7, 8], [9, 8]]))
        assert torch.equal(first, second)
        assert not torch.equal(first[0], first[1])  # their prefixes differ
        for one, other in zip(before, states(prefix.cache), strict=True):
            assert torch.equal(one, other)
