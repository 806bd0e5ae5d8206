"""Inserts LoRA adapters into a frozen base model."""

import warnings
from typing import TYPE_CHECKING, cast

import torch
from transformers import PreTrainedModel

from onion_lightning.errors import NoSuchLayersError, OnionError
from onion_lightning.model.adapters.settings import AdapterSettings, TargetModules

if TYPE_CHECKING:  # peft takes two seconds to import, and `--help` imports this module
    from peft import PeftModel

__all__ = ["insert_adapters"]


def insert_adapters(base: PreTrainedModel, settings: AdapterSettings, name: str) -> "PeftModel":
    """Insert LoRA adapters (Hu et al. 2021) in float32.

    Args:
        base: frozen model.
        settings: of the adapters.
        name: of the base model, for the error message.

    Raises:
        NoSuchLayersError: the model has no such layers.
        OnionError: DoRA was asked for embeddings.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=layer_names(base, settings.target_modules),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=settings.start,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # Tied embeddings are adapted apart, which only matters to those who merge adapters.
            warnings.filterwarnings("ignore", message=".*a tied layer is part of the adapter.*")
            model = get_peft_model(base, config)
    except ValueError as error:
        raise NoSuchLayersError(
            f"--model.target_modules {settings.target_modules}: {name} has no such layers; give auto, all-linear, or some of"
            f" {', '.join(linear_names(base))}."
        ) from error
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert "lora_" in parameter_name
            if settings.use_dora and "lora_embedding_" in parameter_name:
                raise OnionError(
                    f"--model.use_dora true: --model.target_modules {settings.target_modules} has an embedding layer,"
                    " and DoRA is for linear layers; omit that layer, or give --model.use_dora false."
                )
            assert parameter.dtype == torch.float32  # "Attempting to unscale FP16 gradients" otherwise (peft#341)
    return cast("PeftModel", model)


def layer_names(base: PreTrainedModel, target_modules: TargetModules) -> list[str] | str | None:
    """Return the layers to adapt as peft takes them.

    For `auto`, these are the query and value projections, or the layer into which an architecture such as Phi-3 fuses them;
    for an architecture with neither, peft chooses.
    """
    if target_modules == "auto":
        names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
        return next((layers for layers in (["q_proj", "v_proj"], ["qkv_proj"]) if names.issuperset(layers)), None)
    return target_modules if isinstance(target_modules, str) else list(target_modules)


def linear_names(base: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of the linear layers, quantized or not, without the output layer."""
    head = base.get_output_embeddings()
    layers = (name for name, layer in base.named_modules() if hasattr(layer, "in_features") and layer is not head)
    return sorted({name.rpartition(".")[2] for name in layers})
