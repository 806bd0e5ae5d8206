"""Presents a folder of adapters as a checkpoint, so that it can be the `--ckpt_path` of commands that do not train."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.pretrained.adapter_folder import (
    LoraFolder,
    name_in_checkpoint,
    read_adapter_folder,
    read_settings,
)

__all__ = ["adapter_flags", "checkpoint_from_folder"]


def checkpoint_from_folder(folder: Path, flag: str = "--ckpt_path") -> dict[str, Any]:
    """Return a checkpoint with the adapters in a folder, and with no position in a run; `flag` names it, for messages.

    Raises:
        OnionError: the folder does not contain plain LoRA adapters.
    """
    found, settings = read_adapter_folder(folder, flag), read_settings(folder)
    flags = settings.get("flags", {}) | adapter_flags(found, settings)
    return {
        "pytorch-lightning_version": pl.__version__,
        "epoch": 0,
        "global_step": 0,
        "state_dict": {name_in_checkpoint(name): weight for name, weight in found.weights.items()},
        CHECKPOINT_KEY: {
            "flags": flags,
            "training": settings.get("training", {}),
            "architecture": settings.get("architecture"),
        },
    }


def adapter_flags(found: LoraFolder, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that adapters are loaded with.

    Args:
        found: the adapters.
        settings: the content of `onion_lightning.json`; may be empty.
    """
    saved = settings.get("flags", {})
    base_model = found.base_model
    if base_model == settings.get("base_model_name_or_path"):  # otherwise the folder was edited
        base_model = saved.get(
            "model.base_model", base_model
        )  # demo, for instance, is a different directory on each machine
    return {
        **({"model.base_model": base_model} if base_model else {}),
        "model.lora_rank": found.rank,
        "model.lora_alpha": int(found.alpha),
        "model.lora_dropout": found.dropout,
        "model.use_rslora": found.use_rslora,
        "model.use_dora": found.use_dora,
        "model.target_modules": saved.get("model.target_modules", found.target_modules),
    }
