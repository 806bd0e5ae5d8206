"""Inserts LoRA adapters into a frozen base model, and checks that saved adapters fit."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError

__all__ = ["ADAPTER_FLAGS", "CHECKPOINT_KEY", "check_adapters", "insert_adapters", "trainable_names"]

ADAPTER_FLAGS = ("base_model", "load_in", "lora_rank", "lora_alpha", "lora_dropout", "target_modules")
CHECKPOINT_KEY = "onion_lightning"  # this project's own entry in a Lightning checkpoint


def insert_adapters(
    base: PreTrainedModel, rank: int, alpha: int, dropout: float, target_modules: Sequence[str], name: str
) -> PeftModel:
    """Insert LoRA adapters (Hu et al. 2021) in float32.

    Args:
        base: frozen model.
        rank: rank of each adapter.
        alpha: adapters are scaled by alpha / rank.
        dropout: dropout before each adapter.
        target_modules: names of the linear layers to adapt.
        name: of the base model, for the error message.

    Raises:
        OnionError: the model has no such layers.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(target_modules), task_type="CAUSAL_LM"
    )
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise OnionError(
            f"--model.target_modules {list(target_modules)}: {name} has no such layers; Llama's are q_proj, k_proj, v_proj,"
            " o_proj, gate_proj, up_proj and down_proj."
        ) from error
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert "lora_" in parameter_name
            assert parameter.dtype == torch.float32  # "Attempting to unscale FP16 gradients" otherwise (peft#341)
    return cast(PeftModel, model)


def trainable_names(module: torch.nn.Module) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def check_adapters(module: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose adapters have other names or shapes than those of a module.

    Args:
        module: an `OnionModule` whose adapters are inserted.
        checkpoint: a checkpoint of this project.

    Raises:
        OnionError: the adapters do not fit.
    """
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: value.shape for name, value in checkpoint["state_dict"].items()}
    if expected != found:
        raise OnionError(
            f"--ckpt_path: its adapters do not fit --model.base_model {module.base_model} with --model.lora_rank"
            f" {module.lora_rank} and --model.target_modules {module.target_modules}; it was made with"
            f" {checkpoint[CHECKPOINT_KEY]['flags']}."
        )
