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


def documented_model(source: str, bits: str, training: bool = True, checkpointing: bool = False) -> Any:
    """Load a base model and add new adapters.

    Args:
        source: argument of `from_pretrained`.
        bits: 8 quantizes with bitsandbytes; 16 is `DTYPE`.
        training: whether to prepare the quantized model for training, as peft advises.
        checkpointing: whether training computes activations again in the backward pass.
    """
    quantization = BitsAndBytesConfig(load_in_8bit=True) if bits == "8" else None
    base = AutoModelForCausalLM.from_pretrained(
        source, dtype=DTYPE, quantization_config=quantization, device_map={"": "cpu"}
    )
    if training and bits == "8":
        base = prepare_model_for_kbit_training(base, checkpointing, {"use_reentrant": False} if checkpointing else None)
    torch.manual_seed(0)
    return get_peft_model(base, LORA)
