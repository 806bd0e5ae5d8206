"""rsLoRA, DoRA and first values of adapters: what their layers compute, and what is refused."""

import math

import pytest
import torch
from peft.tuners.lora import LoraLayer

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.switches import merged_adapters, scaled_adapters
from onion_lightning.model.module import OnionModule
from tests.conftest import batch, module

FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])


def layers(made: OnionModule) -> list[LoraLayer]:
    return [layer for layer in made.modules() if isinstance(layer, LoraLayer)]


def train_at_random(made: OnionModule) -> None:
    """Move every adapter weight."""
    torch.manual_seed(3)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)


def weights(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the base weight as it is dequantized, and B A."""
    base = layer.get_base_layer()
    weight = base.dequantize() if hasattr(base, "dequantize") else base.weight
    return weight.float(), layer.lora_B["default"].weight @ layer.lora_A["default"].weight


@FORMATS
def test_rslora_scales_by_alpha_over_the_root_of_the_rank(tiny_base, load_in):
    made = module(tiny_base, load_in=load_in, lora_rank=4, lora_alpha=6, use_rslora=True)
    train_at_random(made)
    assert made.adapters.scaling == 3
    for layer in layers(made):
        weight, product = weights(layer)
        x = torch.randn(5, weight.shape[1])
        torch.testing.assert_close(layer(x), x @ (weight + 3 * product).T, atol=1e-4, rtol=1e-4)


@FORMATS
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dora_rows_have_the_trained_norm_and_the_direction_of_the_sum(tiny_base, load_in, dropout):
    """peft takes another path with dropout; outside of training both compute the same."""
    made = module(tiny_base, load_in=load_in, use_dora=True, lora_dropout=dropout).eval()
    train_at_random(made)
    for layer in layers(made):
        weight, product = weights(layer)
        total = weight + 2 * product
        norm = layer.lora_magnitude_vector["default"].weight
        expected = total * (norm / total.norm(dim=1))[:, None]
        x = torch.randn(5, weight.shape[1])
        torch.testing.assert_close(layer(x), x @ expected.T, atol=1e-4, rtol=1e-4)


@FORMATS
def test_dora_starts_as_the_base_model_and_trains_its_norms_in_float32(tiny_base, load_in):
    made = module(tiny_base, load_in=load_in, use_dora=True)
    loss = made.loss_sum(batch(made))
    with made.model.disable_adapter():
        torch.testing.assert_close(loss, made.loss_sum(batch(made)))
    loss.backward()
    norms = {name: p for name, p in made.named_parameters() if "magnitude" in name}
    assert len(norms) == 4
    assert all(p.requires_grad and p.dtype == torch.float32 for p in norms.values())
    assert all(p.grad.abs().sum() > 0 for p in norms.values())


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_dora_trains_under_autocast_with_norms_in_float32(tiny_base, precision):
    made = module(tiny_base, precision, use_dora=True, lora_dropout=0.1, gradient_checkpointing=True)
    with torch.autocast("cpu", torch.float16 if precision == "16-mixed" else torch.bfloat16):
        loss = made.loss_sum(batch(made))
    loss.backward()
    trained = [p for p in made.parameters() if p.requires_grad]
    assert {p.grad.dtype for p in trained} == {torch.float32}
    assert sum(bool(p.grad.abs().sum()) for p in trained) == len(trained) - 4  # A has no gradient yet: B is zero


def test_merged_dora_computes_the_same_and_weights_return_bit_for_bit(tiny_base):
    made = module(tiny_base, load_in="none", use_dora=True).eval()
    train_at_random(made)
    before = {name: p.clone() for name, p in made.named_parameters()}
    loss = made.loss_sum(batch(made))
    with merged_adapters(made.model):
        assert all(layer.merged for layer in layers(made))
        torch.testing.assert_close(made.loss_sum(batch(made)), loss, rtol=1e-4, atol=0)
    assert all(torch.equal(before[name], p) for name, p in made.named_parameters())


def test_gaussian_first_values_have_the_deviation_of_one_over_the_rank(tiny_base):
    made = module(tiny_base, init_lora_weights="gaussian", lora_rank=4)
    values = torch.cat([layer.lora_A["default"].weight.detach().flatten() for layer in layers(made)])
    assert float(values.std()) == pytest.approx(1 / 4, rel=0.1)
    assert float(values.abs().max()) > 1 / math.sqrt(64)  # the bound of kaiming
    assert all(layer.lora_B["default"].weight.abs().sum() == 0 for layer in layers(made))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "loftq", "olora", "orthogonal"])
def test_first_values_that_change_the_base_model_are_refused(start):
    with pytest.raises(
        OnionError, match=rf"^--model.init_lora_weights {start}: changes .* give kaiming or gaussian\.$"
    ):
        OnionModule(init_lora_weights=start)


def test_dora_cannot_be_scaled(tiny_base):
    made = module(tiny_base, use_dora=True)
    refused = pytest.raises(OnionError, match=r"^--model.adapter_strength 0.5: .*use_dora.* omit the flag\.$")
    with refused, scaled_adapters(made.model, 0.5):
        pass
    with scaled_adapters(made.model, 1.0):
        pass


def test_dora_of_embeddings_is_refused(tiny_base):
    with pytest.raises(OnionError, match=r"^--model.use_dora true: .*'embed_tokens'.* has an embedding layer"):
        module(tiny_base, use_dora=True, target_modules=["q_proj", "embed_tokens"])
