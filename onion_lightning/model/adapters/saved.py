"""Saves adapters in a checkpoint, loads those of a folder, and checks that saved ones match."""

from pathlib import Path
from typing import Any

import torch

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.adapter_folder import name_in_checkpoint, read_adapter_folder

__all__ = [
    "ADAPTER_FLAGS",
    "CHECKPOINT_KEY",
    "check_adapters",
    "load_adapters",
    "reduce_to_adapters",
    "trainable_names",
]

ADAPTER_FLAGS = (
    *("base_model", "load_in", "lora_rank", "lora_alpha", "lora_dropout", "target_modules"),
    *("use_rslora", "use_dora", "init_lora_weights"),
)
TRAINING_FLAGS = ("learning_rate", "weight_decay", "warmup_ratio", "optimizer", "lora_plus_ratio", "neftune_alpha")
CHECKPOINT_KEY = "onion_lightning"  # this project's own entry in a Lightning checkpoint


def load_adapters(module: Any, folder: str) -> None:
    """Replace the weights of a module's adapters by those in a folder.

    Args:
        module: an `OnionModule` with its adapters inserted.
        folder: that `export` or peft's `save_pretrained` wrote.

    Raises:
        OnionError: the folder cannot be read, or its adapters differ in name or shape.
    """
    found = read_adapter_folder(Path(folder), "--model.adapter").weights
    weights = {name_in_checkpoint(name): weight for name, weight in found.items()}
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    wrong = sorted(name for name in weights.keys() | expected.keys() if shape_of(weights, name) != expected.get(name))
    if wrong:
        raise OnionError(
            f"--model.adapter {folder}: its adapters do not match --model.base_model {module.base_model} with"
            f" --model.target_modules {module.target_modules}: {len(wrong)} weights are missing, left over or of another"
            f" shape, such as {wrong[0]}; give the base model that they were trained on."
        )
    module.load_state_dict(weights)


def shape_of(weights: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return weights[name].shape if name in weights else None


def trainable_names(module: torch.nn.Module) -> set[str]:
    """Return the names of the trainable parameters."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def reduce_to_adapters(module: Any, checkpoint: dict[str, Any]) -> None:
    """Remove the base weights from a Lightning checkpoint, and add the flags that the adapters were trained with.

    Args:
        module: the `OnionModule` that is saved.
        checkpoint: modified in place.
    """
    trainable = trainable_names(module)
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in trainable}
    # `load_from_checkpoint` constructs the module from these.
    flags = {name: getattr(module, name) for name in (*ADAPTER_FLAGS, *TRAINING_FLAGS)}
    checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = flags
    saved = checkpoint.setdefault(CHECKPOINT_KEY, {})
    saved["flags"] = saved.get("flags", {}) | module.adapter_flags() | {"seed_everything": module.seed}
    saved["training"] = {f"model.{name}": getattr(module, name) for name in TRAINING_FLAGS}
    saved["architecture"] = module.architecture


def check_adapters(module: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose adapters differ from those of a module in name or shape.

    Args:
        module: an `OnionModule` with its adapters inserted.
        checkpoint: a checkpoint of this project.

    Raises:
        OnionError: the adapters do not match.
    """
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: value.shape for name, value in checkpoint["state_dict"].items()}
    if expected != found:
        flags = " ".join(f"--{name} {value}" for name, value in checkpoint[CHECKPOINT_KEY]["flags"].items())
        raise OnionError(
            f"--ckpt_path: its adapters do not match --model.base_model {module.base_model} with --model.lora_rank"
            f" {module.lora_rank} and --model.target_modules {module.target_modules}; use the flags that they were trained"
            f" with: {flags}."
        )
