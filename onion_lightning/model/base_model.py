"""Loads frozen base weights in 8 bit, 4 bit or 16 bit.

Only safetensors files are read: no pickle is opened and no remote code is run.
"""

from pathlib import Path
from typing import Literal

import bitsandbytes
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.source import locate, unavailable

__all__ = ["LoadIn", "compute_dtype", "has_bfloat16", "load_model", "use_fast_8bit"]

LoadIn = Literal["int8", "nf4", "none"]


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 natively; a CPU that does not is several times slower in it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def compute_dtype(device: torch.device, load_in: LoadIn) -> torch.dtype:
    """Dtype of the frozen parts that are not quantized, and of the products with those that are.

    On the CPU never float16, whose products are thousands of times slower there, and float32 where nothing is quantized.
    """
    if device.type == "cpu":
        return torch.bfloat16 if has_bfloat16(device) and load_in != "none" else torch.float32
    return torch.float16


def quantization(load_in: LoadIn, dtype: torch.dtype) -> BitsAndBytesConfig | None:
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
    """Load frozen base weights on one device.

    Raises:
        OnionError: there is no such model, or its weights are not safetensors.
    """
    source = locate(base_model)
    dtype = compute_dtype(device, load_in)
    if Path(source).is_dir() and not list(Path(source).glob("*.safetensors")):
        raise OnionError(
            f"--model.base_model {base_model}: no *.safetensors in it, and pickled weights are never opened; convert them"
            " where you trust them: model.save_pretrained(folder, safe_serialization=True)."
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
            f"--model.base_model {base_model}: its weights are damaged ({error}); fetch them again."
        ) from error
    except (OSError, ValueError) as error:
        raise unavailable(base_model, error) from error
    model.requires_grad_(False)
    return model


def use_fast_8bit(model: torch.nn.Module) -> None:
    """Let 8-bit layers on the CPU dequantize and multiply, as in training, when the rest is in `eval()`.

    Their other path quantizes activations too; without AVX-512 it is slower, and it gives a row another loss in another
    batch (2e-3 against 1e-4). The layers have no dropout: the flag decides nothing else. On a GPU they are left alone.
    """
    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear8bitLt) and layer.weight.device.type == "cpu":
            layer.training = True
