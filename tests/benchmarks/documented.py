"""Models as the documents of transformers, peft and bitsandbytes advise: what this project is compared with."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from onion_lightning.model.base_model import has_bfloat16

__all__ = ["BFLOAT16", "BITS", "CPU", "DTYPE", "LOAD_IN", "NOTE", "documented_model"]

CPU = torch.device("cpu")
BFLOAT16 = has_bfloat16(CPU)
DTYPE = torch.bfloat16 if BFLOAT16 else torch.float32
NOTE = f'"16 bit" is {"bfloat16" if BFLOAT16 else "float32, because this CPU has no bfloat16"}'
LOAD_IN: dict[str, Any] = {"8": "int8", "16": "none"}  # this project's flag
BITS = tuple(LOAD_IN)
LORA = LoraConfig(
    r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", bias="none"
)


def documented_model(
    source: str,
    bits: str,
    training: bool = True,
    checkpointing: bool = False,
    device: torch.device = CPU,
    dtype: torch.dtype = DTYPE,
) -> Any:
    """Load a base model and add new adapters.

    Args:
        source: argument of `from_pretrained`.
        bits: 8 and 4 (nf4, with quantized scales) quantize with bitsandbytes; 16 is `dtype`.
        training: whether to prepare the quantized model for training, as peft advises.
        checkpointing: whether training computes activations again in the backward pass.
        device: where the model is loaded.
        dtype: of what is not quantized, and of 4-bit products.
    """
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    quantization = {
        "8": BitsAndBytesConfig(load_in_8bit=True),
        "4": BitsAndBytesConfig(load_in_4bit=True, **four),
        "16": None,
    }[bits]
    base = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, quantization_config=quantization, device_map={"": device}
    )
    if training and quantization:
        base = prepare_model_for_kbit_training(base, checkpointing, {"use_reentrant": False} if checkpointing else None)
    elif training and checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
        base.enable_input_require_grads()
    torch.manual_seed(0)
    return get_peft_model(base, LORA)
