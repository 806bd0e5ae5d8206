"""Loads a base model with frozen weights: in 8 bit, in 4 bit, or not quantized.

Only safetensors files are read: no pickle is opened and no remote code is run.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Heartbeat, format_seconds, log_line
from onion_lightning.pretrained.locate import LOAD_ERRORS, locate, unavailable
from onion_lightning.private_api import cpu_has_bfloat16

if TYPE_CHECKING:  # bitsandbytes takes a second to import, and `--help` imports this module
    from onion_lightning.model.sharding.shares import Share

__all__ = [
    "LoadIn",
    "avoid_cudnn_attention",
    "best_precision",
    "compute_dtype",
    "has_bfloat16",
    "load_model",
    "loading",
]

LoadIn = Literal["int8", "nf4", "none"]
COMPUTE_DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16, "32-true": torch.float32}


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device supports bfloat16 in hardware; a CPU that emulates it is several times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_has_bfloat16()


def best_precision(device: torch.device) -> str:
    """Return the precision to use on a device if none was asked for: bf16-mixed if its hardware has bfloat16."""
    if has_bfloat16(device):
        return "bf16-mixed"
    return "16-mixed" if device.type == "cuda" else "32-true"  # float16 products on a CPU are thousands of times slower


def compute_dtype(precision: str) -> torch.dtype:
    """Return the dtype of frozen layers that are not quantized, and of matrix products in those that are.

    It is that of autocast: activations then keep one dtype through all layers.

    Raises:
        OnionError: adapters would not be in float32, or the precision is unknown.
    """
    if precision not in COMPUTE_DTYPES:
        raise OnionError(
            f"--trainer.precision {precision}: adapters are trained in float32; give {', '.join(COMPUTE_DTYPES)}, or omit the"
            " flag."
        )
    return COMPUTE_DTYPES[precision]


def quantization(load_in: LoadIn, share: "Share | None") -> BitsAndBytesConfig | None:
    """Return the configuration that quantizes weights while they are loaded, all of them or a share."""
    if share is not None:
        from onion_lightning.model.sharding.shares import share_config

        return share_config(share, quantization(load_in, None))
    match load_in:
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        case "nf4":
            return BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
            )
        case "none":
            return None


def loading(base_model: str, source: str) -> Heartbeat:
    """Log that a base model is being loaded, now and every minute while this context is active."""
    began = time.monotonic()
    place = Path(source)
    files = [place] if place.is_file() else place.glob("*.safetensors") if place.is_dir() else []
    gigabytes = sum(file.stat().st_size for file in files) / 1e9  # 0 for a model of the Hub, which may not be here yet
    size = f", {gigabytes:.1f} GB" if gigabytes >= 0.1 else ""
    log_line(f"loading {base_model}{size}")
    return Heartbeat(lambda: f"loading {base_model}{size}: {format_seconds(time.monotonic() - began)} so far")


def avoid_cudnn_attention() -> None:
    """Make torch choose another kernel for attention.

    With a mask, that of cuDNN returned NaN on H100 and B200, where torch prefers it (pytorch#196678, unsloth#9848), and it
    compiles a plan for each new shape.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def load_model(
    base_model: str, load_in: LoadIn, device: torch.device, dtype: torch.dtype, share: "Share | None" = None
) -> PreTrainedModel:
    """Load a base model with frozen weights on one device.

    Args:
        base_model: demo, a directory or a model ID.
        load_in: quantization of the linear layers.
        device: all layers are on it.
        dtype: of layers that are not quantized, and of matrix products in those that are.
        share: rows of the decoder layers' weights to load; then all other weights are in host memory.

    Raises:
        OnionError: there is no such model, or its weights are damaged or not safetensors.
    """
    source = locate(base_model)
    avoid_cudnn_attention()
    if Path(source).is_dir() and not list(Path(source).glob("*.safetensors")):
        raise OnionError(
            f"--model.base_model {base_model}: contains no *.safetensors file, and pickled weights are never loaded; if you"
            " trust them, convert them with model.save_pretrained(folder, safe_serialization=True)."
        )
    try:
        model: PreTrainedModel
        with loading(base_model, source):
            model, found = AutoModelForCausalLM.from_pretrained(
                source,
                # The weights are quantized as they are in the file, so that they do not depend on the precision.
                dtype=dtype if load_in == "none" and share is None else "auto",
                device_map={"": str(device if share is None else "cpu")},
                quantization_config=quantization(load_in, share),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise OnionError(
            f"--model.base_model {base_model}: its weights are damaged ({error}); download them again."
        ) from error
    except LOAD_ERRORS as error:
        raise unavailable(base_model, error) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise  # out of memory, for instance
        raise OnionError(
            f"--model.base_model {base_model}: its weights do not have the shapes of its config.json; download both again."
        ) from error
    if missing := sorted(found["missing_keys"]):  # transformers would fill them with random numbers
        raise OnionError(
            f"--model.base_model {base_model}: {len(missing)} of its weights are missing, such as {missing[0]}; download it"
            " again."
        )
    freeze(model, dtype, load_in != "none")
    return model


def freeze(model: PreTrainedModel, dtype: torch.dtype, quantized: bool) -> None:
    """Freeze a model in place: `dtype` in all that is not quantized, and this project's layers for what is."""
    from onion_lightning.model.frozen_linear import freeze_quantized_layers

    model.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            # On a CPU, a tensor that kept its dtype would keep the whole file mapped, which counts as memory of this process.
            parameter.data = parameter.data.to(dtype, copy=quantized and parameter.device.type == "cpu")
    freeze_quantized_layers(model, dtype)
