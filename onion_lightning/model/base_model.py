"""Loads a base model with frozen weights: in 8 bit, in 4 bit, or not quantized.

Only safetensors files are read: no pickle is opened and no remote code is run.
"""

from pathlib import Path
from typing import Literal

import bitsandbytes
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.locate import locate, unavailable
from onion_lightning.private_api import cpu_has_bfloat16

__all__ = ["LoadIn", "compute_dtype", "has_bfloat16", "load_model", "use_fast_8bit"]

LoadIn = Literal["int8", "nf4", "none"]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device supports bfloat16 in hardware; a CPU that emulates it is several times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_has_bfloat16()


def compute_dtype(device: torch.device, load_in: LoadIn) -> torch.dtype:
    """Return the dtype of layers that are not quantized, and of matrix products in those that are.

    It is never float16 on the CPU, where such products are thousands of times slower. An unquantized model on the CPU is in
    float32.
    """
    if device.type == "cpu":
        return torch.bfloat16 if has_bfloat16(device) and load_in != "none" else torch.float32
    return torch.float16


def quantization(load_in: LoadIn, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return the configuration of bitsandbytes, with `dtype` for matrix products in 4-bit layers."""
    match load_in:
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        case "nf4":
            return BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        case "none":
            return None


def load_model(base_model: str, load_in: LoadIn, device: torch.device) -> PreTrainedModel:
    """Load a base model with frozen weights on one device.

    Args:
        base_model: demo, a directory or a model ID.
        load_in: quantization of the linear layers.
        device: all layers are on it.

    Raises:
        OnionError: there is no such model, or its weights are damaged or not safetensors.
    """
    source = locate(base_model)
    dtype = compute_dtype(device, load_in)
    if Path(source).is_dir() and not list(Path(source).glob("*.safetensors")):
        raise OnionError(
            f"--model.base_model {base_model}: contains no *.safetensors file, and pickled weights are never loaded; if you"
            " trust them, convert them with model.save_pretrained(folder, safe_serialization=True)."
        )
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            device_map={"": str(device)},
            quantization_config=quantization(load_in, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except SafetensorError as error:
        raise OnionError(
            f"--model.base_model {base_model}: its weights are damaged ({error}); download them again."
        ) from error
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error
    model.requires_grad_(False)
    keep_4bit_weights_unpacked(model)
    return model


def keep_4bit_weights_unpacked(model: torch.nn.Module) -> None:
    """Turn off a format of 4-bit layers that has no backward pass.

    On a CPU with AVX-512-BF16, the first forward pass in `eval()` mode would pack the weights for inference, in place. In
    every later training step, products with packed weights have no gradient, or a wrong one (bitsandbytes 0.50.2).
    """
    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            layer.support_avx512bf16_for_cpu = False


def use_fast_8bit(model: torch.nn.Module) -> None:
    """Make 8-bit layers on the CPU dequantize their weights and multiply, as in training, also in `eval()` mode.

    In `eval()` mode they would quantize activations as well. That is slower without AVX-512, and the loss of a row then
    depends more on the rest of its batch (2e-3 instead of 1e-4). The layers have no dropout, so their `training` attribute
    has no other effect. Layers on a GPU do not change.
    """
    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear8bitLt) and layer.weight.device.type == "cpu":
            layer.training = True
