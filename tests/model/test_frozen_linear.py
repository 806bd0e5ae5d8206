"""The frozen linear layers: the same weights as those of bitsandbytes, and a backward pass from the weights alone."""

import bitsandbytes
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from onion_lightning.model import frozen_linear
from onion_lightning.model.base_model import load_model
from onion_lightning.model.frozen_linear import FrozenLinear, Int8Linear, Nf4Linear
from tests.conftest import batch, module

CPU = torch.device("cpu")
QUANTIZED = pytest.mark.parametrize(("load_in", "kind"), [("int8", Int8Linear), ("nf4", Nf4Linear)])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


def layer_of(tiny_base, load_in: str, dtype: torch.dtype) -> FrozenLinear:
    return load_model(str(tiny_base), load_in, CPU, dtype).model.layers[0].mlp.up_proj


def original(tiny_base) -> torch.Tensor:
    return load_model(str(tiny_base), "none", CPU, torch.float32).model.layers[0].mlp.up_proj.weight


@QUANTIZED
@DTYPES
def test_a_quantized_model_has_only_frozen_layers_in_the_compute_dtype(tiny_base, load_in, kind, dtype):
    model = load_model(str(tiny_base), load_in, CPU, dtype)
    layers = [layer for layer in model.modules() if isinstance(layer, FrozenLinear)]
    assert len(layers) == 2 * 7
    assert all(type(layer) is kind and layer.output_dtype == dtype for layer in layers)
    theirs = bitsandbytes.nn.Linear8bitLt | bitsandbytes.nn.Linear4bit
    assert not any(isinstance(layer, theirs) for layer in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for name, p in model.named_parameters() if "norm" in name or "embed" in name} == {dtype}


@QUANTIZED
def test_quantized_weights_do_not_depend_on_the_precision(tiny_base, load_in, kind):
    """Adapters that were trained in one precision would otherwise be used on another base in another precision."""
    one, *others = (layer_of(tiny_base, load_in, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    assert all(torch.equal(one.weight, other.weight) for other in others)
    assert all(other.bias is None for other in others)


@QUANTIZED
def test_adapters_start_with_the_same_values_in_every_precision(tiny_base, load_in, kind):
    one, *others = (
        {name: p for name, p in module(tiny_base, precision, load_in=load_in).named_parameters() if p.requires_grad}
        for precision in ("32-true", "bf16-mixed", "16-mixed")
    )
    assert all(torch.equal(other[name], value) for other in others for name, value in one.items())


@DTYPES
@pytest.mark.parametrize("block", [64, 32])
def test_8_bit_weights_that_are_dequantized_in_blocks_as_on_a_gpu_are_the_same_bit_for_bit(tiny_base, block, dtype):
    layer = layer_of(tiny_base, "int8", dtype)
    assert layer.block == layer.in_features == 64
    found = layer.dequantize_blocks(block)
    assert found.dtype == dtype
    assert found.unique().numel() > 64
    assert torch.equal(found, layer.dequantize())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [1, 1000, 10**9])
def test_16_bit_weights_that_are_dequantized_in_pieces_are_those_of_one_product(tiny_base, monkeypatch, piece, dtype):
    layer = layer_of(tiny_base, "int8", dtype)
    monkeypatch.setattr(frozen_linear, "PIECE", piece)
    expected = (layer.weight.float() * layer.scale).to(dtype)
    assert torch.equal(layer.dequantize(), expected)


@DTYPES
@pytest.mark.parametrize(("load_in", "error"), [("int8", 1 / 254), ("nf4", 0.16)])
def test_dequantized_weights_are_near_the_original_ones(tiny_base, load_in, error, dtype):
    """Within half a step of 1/127 of a row's maximum in int8; half the widest gap between two codes of nf4."""
    weight, layer = original(tiny_base), layer_of(tiny_base, load_in, dtype)
    assert layer.dequantize().dtype == dtype
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float16).eps)  # int8 is quantized from float16
    limit = (error + rounding) * weight.abs().amax(1, keepdim=True)
    assert ((layer.dequantize().float() - weight).abs() <= limit).all()


def test_8_bit_layers_multiply_as_those_of_bitsandbytes_do_in_training(tiny_base):
    config = BitsAndBytesConfig(load_in_8bit=True)
    theirs = AutoModelForCausalLM.from_pretrained(
        tiny_base, device_map={"": "cpu"}, quantization_config=config, dtype=torch.float32
    ).model.layers[0]
    x = torch.randn(3, 5, 64)
    assert torch.equal(layer_of(tiny_base, "int8", torch.float32)(x), theirs.mlp.up_proj.train()(x))


@QUANTIZED
@DTYPES
def test_gradients_are_those_of_a_linear_layer_with_the_dequantized_weights(tiny_base, load_in, kind, dtype):
    layer = layer_of(tiny_base, load_in, dtype)
    x = torch.randn(3, 5, 64, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    upstream = torch.randn(3, 5, 128, dtype=dtype)
    found, expected = layer(x), torch.nn.functional.linear(y, layer.dequantize())
    found.backward(upstream)
    expected.backward(upstream)
    assert found.dtype == x.grad.dtype == dtype
    assert torch.equal(found, expected)
    assert torch.equal(x.grad, y.grad)
    assert layer.weight.grad is None


@QUANTIZED
@DTYPES
@pytest.mark.parametrize("rows", [1, 8, 9, 64, 65])
def test_without_gradients_a_product_is_as_exact_as_that_of_the_dequantized_weights(
    tiny_base, load_in, kind, dtype, rows
):
    layer = layer_of(tiny_base, load_in, dtype)
    layer.bias = torch.nn.Parameter(torch.randn(128).to(dtype), requires_grad=False)
    x = torch.randn(rows, 1, 64).to(dtype)
    with torch.no_grad():
        found = layer(x)
    weight = layer_of(tiny_base, load_in, torch.float32).dequantize().double()
    exact = torch.nn.functional.linear(x.double(), weight, layer.bias.double())
    assert (found.shape, found.dtype) == ((rows, 1, 128), dtype)
    size = torch.nn.functional.linear(x.double().abs(), weight.abs(), layer.bias.double().abs())
    assert ((found.double() - exact).abs() <= 2 * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_product_without_gradients_does_not_overflow_before_it_is_scaled(tiny_base, dtype):
    layer = layer_of(tiny_base, "int8", dtype)
    x = layer.dequantize()[:4].sign() * 500  # outputs near 500 times the sum of a row: about 1,000, not 100,000
    with torch.no_grad():
        assert layer(x).isfinite().all()
    assert (x.float() @ layer.weight.float().T).max() > torch.finfo(torch.float16).max


@pytest.mark.parametrize(
    ("dtype", "rows", "used"), [(torch.bfloat16, 8, True), (torch.bfloat16, 9, False), (torch.float32, 1, False)]
)
def test_8_bit_weights_are_multiplied_without_conversion_for_a_few_rows_of_bfloat16(
    tiny_base, monkeypatch, dtype, rows, used
):
    calls = []
    monkeypatch.setattr(
        frozen_linear, "int8_product", lambda x, weight: calls.append(len(x)) or x @ weight.to(x.dtype).T
    )
    with torch.no_grad():
        layer_of(tiny_base, "int8", dtype)(torch.randn(rows, 1, 64).to(dtype))
    assert calls == ([rows] if used else [])


@QUANTIZED
def test_nothing_is_saved_for_the_backward_pass(tiny_base, load_in, kind):
    layer, saved = layer_of(tiny_base, load_in, torch.float32), []
    x = torch.randn(3, 5, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda t: t):
        output = layer(x)
    assert saved == []
    assert not any(isinstance(value, torch.Tensor) for value in vars(output.grad_fn).values())


@QUANTIZED
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_activations_keep_the_compute_dtype_and_adapters_stay_float32(tiny_base, load_in, kind, dtype):
    precision = "bf16-mixed" if dtype == torch.bfloat16 else "16-mixed"
    made = module(tiny_base, precision, load_in=load_in)
    seen = set()

    def note(layer: torch.nn.Module, inputs: tuple, output: object) -> None:
        seen.update(one.dtype for one in (*inputs, output) if isinstance(one, torch.Tensor) and one.is_floating_point())

    for layer in made.modules():
        if isinstance(layer, FrozenLinear | LoraLayer | torch.nn.LayerNorm) or "RMSNorm" in type(layer).__name__:
            layer.register_forward_hook(note)
    with torch.autocast("cpu", dtype):
        loss = made.loss_sum(batch(made))
    loss.backward()
    assert seen == {dtype}
    assert loss.dtype == torch.float32
    trained = [p for p in made.parameters() if p.requires_grad]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in trained)


@QUANTIZED
def test_a_layer_with_a_bias_adds_it(tiny_base, load_in, kind):
    layer = layer_of(tiny_base, load_in, torch.float32)
    x = torch.randn(4, 64)
    without = layer(x)
    layer.bias = torch.nn.Parameter(torch.arange(128.0), requires_grad=False)
    torch.testing.assert_close(layer(x), without + torch.arange(128.0))
