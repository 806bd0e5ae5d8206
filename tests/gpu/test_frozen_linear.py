"""The frozen layers on the device: the weights and gradients that they have on the CPU."""

import copy

import pytest
import torch

from onion_lightning.model.base_model import load_model
from onion_lightning.model.frozen_linear import FrozenLinear
from tests.gpu.conftest import DEVICE, GPU, batch_on, on_device

pytestmark = GPU
CPU = torch.device("cpu")
QUANTIZED = pytest.mark.parametrize("load_in", ["int8", "nf4"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])


def layer_of(base, load_in: str, device: torch.device, dtype: torch.dtype = torch.float32) -> FrozenLinear:
    return load_model(str(base), load_in, device, dtype).model.layers[0].mlp.up_proj


@QUANTIZED
@DTYPES
def test_the_same_codes_and_scales_give_the_same_weights_and_gradients(tiny_base, load_in, dtype):
    """A weight is one or two products, each rounded once: the last bit may differ. A gradient is a sum of 128 of them."""
    layer = layer_of(tiny_base, load_in, CPU, dtype)
    there = copy.deepcopy(layer).to(DEVICE)
    last_bit = torch.finfo(dtype).eps
    torch.testing.assert_close(there.dequantize().cpu(), layer.dequantize(), rtol=last_bit, atol=0)
    torch.manual_seed(0)
    x, upstream = torch.randn(3, 5, 64, dtype=dtype), torch.randn(3, 5, 128, dtype=dtype)
    outputs, gradients = [], []
    for one, device in ((layer, CPU), (there, DEVICE)):
        start = x.clone().to(device).requires_grad_()
        output = one(start)
        output.backward(upstream.to(device))
        outputs.append(output.detach().cpu())
        gradients.append(start.grad.cpu())
    for found, expected in ((outputs[1], outputs[0]), (gradients[1], gradients[0])):
        torch.testing.assert_close(found, expected, rtol=0, atol=4 * last_bit * float(expected.abs().max()))


@QUANTIZED
def test_weights_quantized_on_the_device_are_near_the_original_ones(tiny_base, load_in):
    """Within half a step of 1/127 of a row's maximum in int8; half the widest gap between two codes of nf4."""
    original = layer_of(tiny_base, "none", CPU).weight
    found = layer_of(tiny_base, load_in, DEVICE).dequantize().cpu()
    error = {"int8": 1 / 254, "nf4": 0.16}[load_in] + torch.finfo(torch.float16).eps  # int8 is quantized from float16
    assert ((found - original).abs() <= error * original.abs().amax(1, keepdim=True)).all()


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_a_model_loaded_on_the_cpu_can_be_moved_to_the_device(tiny_base, load_in):
    """As Lightning does with a module that `load_from_checkpoint` has loaded. EXACT of `test_like_cpu.py`."""
    made = on_device(tiny_base, device=CPU, load_in=load_in)
    with torch.inference_mode():
        before = made.loss_sum(batch_on(made, CPU))
        made.to(DEVICE)
        torch.testing.assert_close(made.loss_sum(batch_on(made, DEVICE)).cpu(), before, rtol=1e-4, atol=0)
