"""Builds the model of a training run on fake tensors, which have a shape and a dtype but no memory."""

from collections.abc import Iterator

import peft  # noqa: F401 - inserting adapters must not import it first, under another default device
import torch
from bitsandbytes.functional import QuantState
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from onion_lightning.errors import OnionError, shorten
from onion_lightning.model.base_model import LoadIn
from onion_lightning.model.frozen_linear import PIECE, Int8Linear, Nf4Linear
from onion_lightning.model.module import OnionModule
from onion_lightning.private_api import FakeTensorMode

__all__ = ["count_parameters", "frozen_linear_layers", "load_fake_base", "nf4_layer", "quantize", "tensors_of"]


def load_fake_base(module: OnionModule, config: PretrainedConfig, dtype: torch.dtype, fake: FakeTensorMode) -> None:
    """Give a module a base model of fake CPU tensors, and insert its adapters. The counterpart of `OnionModule.load_base`.

    Args:
        module: without a base model.
        config: of the base model; its dtype is modified.
        dtype: of layers that are not quantized, and of matrix products in those that are.
        fake: the mode that the tensors belong to.

    Raises:
        OnionError: there is no causal language model with such a config, or it has no such layers to adapt.
    """
    with fake:
        base = fake_causal_model(module.base_model, config, dtype)
        base.requires_grad_(False)
        quantize(base, module.load_in, dtype)
    # peft moves each adapter with `Module.to`, which fails on fake tensors (pytorch#165387), but not from the meta device.
    fake.allow_non_fake_inputs = True  # DoRA computes with both kinds
    try:
        with torch.device("meta"), torch.no_grad():
            module.adapt(base)
    finally:
        fake.allow_non_fake_inputs = False
    with fake:
        for layer in module.modules():
            for name, parameter in list(layer.named_parameters(recurse=False)):
                if parameter.requires_grad:
                    setattr(layer, name, torch.nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype)))


def fake_causal_model(name: str, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        return AutoModelForCausalLM.from_config(config, dtype=dtype)
    except ValueError as error:
        raise OnionError(
            f"--model.base_model {name}: is not a causal language model ({shorten(error)}); choose another."
        ) from error


def quantize(base: PreTrainedModel, load_in: LoadIn, dtype: torch.dtype) -> None:
    """Replace the linear layers, except the output layer, as loading in 8 or 4 bit does."""
    if load_in == "none":
        return
    head = base.get_output_embeddings()
    for name, layer in list(base.named_modules()):
        if isinstance(layer, torch.nn.Linear) and layer is not head:
            kind = int8_layer if load_in == "int8" else nf4_layer
            base.set_submodule(name, kind(layer, dtype))


class TracedInt8Linear(Int8Linear):
    """Dequantizes the first piece only: each takes the memory of the one before it, and tracing all of them takes long."""

    def dequantize_pieces(self) -> torch.Tensor:
        weight = torch.empty(self.weight.shape, dtype=self.output_dtype)
        rows = slice(max(1, PIECE // self.in_features))
        weight[rows] = torch.mul(self.weight[rows], self.scale[rows])
        return weight


def int8_layer(layer: torch.nn.Linear, dtype: torch.dtype) -> Int8Linear:
    weight = torch.empty(layer.weight.shape, dtype=torch.int8)
    return TracedInt8Linear(weight, torch.empty(layer.out_features), layer.bias, dtype)


def nf4_layer(layer: torch.nn.Linear, dtype: torch.dtype) -> Nf4Linear:
    """Return a layer with the tensors that `bitsandbytes.functional.quantize_4bit` creates for nf4 with double quantization.

    That function itself would keep a fake tensor in a global cache.
    """
    codes = -(-layer.weight.numel() // 2)  # two in a byte
    blocks = -(-layer.weight.numel() // 64)
    nested = QuantState(torch.empty(-(-blocks // 256)), code=torch.empty(256), blocksize=256, dtype=torch.float32)
    state = QuantState(
        torch.empty(blocks, dtype=torch.uint8),
        layer.weight.shape,
        torch.empty(16),
        blocksize=64,
        quant_type="nf4",
        offset=torch.empty(()),
        state2=nested,
    )
    return Nf4Linear(torch.empty(codes, 1, dtype=torch.uint8), state, layer.bias, dtype)


def frozen_linear_layers(base: PreTrainedModel) -> list[torch.nn.Linear]:
    """Return the frozen linear layers of a base model with or without adapters, except the output layer."""
    head = base.get_output_embeddings()
    linear = [layer for layer in base.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    return [layer for layer in linear if not layer.weight.requires_grad]


def count_parameters(module: OnionModule) -> tuple[int, int]:
    """Return the number of parameters of the base model, as they were before they were quantized, and of the adapters."""
    linear = frozen_linear_layers(module.language_model)
    counted = {id(one) for layer in linear for one in tensors_of(layer)}
    others = sum(one.numel() for one in module.parameters() if not one.requires_grad and id(one) not in counted)
    biases = sum(layer.bias.numel() for layer in linear if layer.bias is not None)
    products = sum(layer.in_features * layer.out_features for layer in linear)
    return products + biases + others, sum(one.numel() for one in module.parameters() if one.requires_grad)


def tensors_of(layer: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors of a layer, those of its adapters not included."""
    yield from layer.parameters(recurse=False)
    yield from layer.buffers(recurse=False)
