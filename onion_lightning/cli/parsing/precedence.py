"""Resolves each option: an explicit flag or YAML key overrides the checkpoint, which overrides the default.

What adapters cannot be loaded without (base model, rank, layers) comes from the checkpoint even if a YAML names another.
"""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from onion_lightning.errors import OnionError
from onion_lightning.messages import tell
from onion_lightning.model.adapters import CHECKPOINT_KEY
from onion_lightning.pretrained.locate import same_architecture
from onion_lightning.training.checkpoint_io import read_checkpoint, resolve

__all__ = ["apply_checkpoint"]

FIXED_SHAPE = ("model.lora_rank", "model.target_modules")  # adapters of another shape cannot be loaded
ADAPTERS = ("model.base_model", *FIXED_SHAPE)
SPLIT = ("data.val_fraction", "data.test_fraction")  # with another split, training rows would count as held out
HELD_OUT = ("validate", "test", "evaluate")


def apply_checkpoint(
    command: str, options: Namespace, typed: set[str], configured: set[str], folder: Path
) -> str | None:
    """Resolve `--ckpt_path`, and set the options that were not given to the checkpoint's values.

    Args:
        command: the subcommand.
        options: its configuration, changed in place.
        typed: dotted names of the options that were given on the command line.
        configured: those that were given in a YAML file.
        folder: the run's folder, where `last` and `best` are.

    Returns:
        The id of the checkpoint's W&B run, if any.

    Raises:
        OnionError: the checkpoint cannot be read, or a typed value contradicts it.
    """
    asked = options.get("ckpt_path")
    if asked is None:
        return None
    path = resolve(asked, folder)
    if command == "fit" and asked == "last" and not path.exists():
        tell(f"--ckpt_path last: {path} does not exist yet, so the run starts from scratch.")
        options["ckpt_path"] = None
        return None
    saved = read_checkpoint(path)[CHECKPOINT_KEY]
    options["ckpt_path"] = str(path)
    values = saved["flags"] | (saved["training"] if command == "fit" else {})
    for name, value in values.items():
        if name in typed or (name in configured and name not in ADAPTERS):
            if options[name] != value:
                check(command, name, options[name], value, path, saved["architecture"])
            continue
        if name in configured and options[name] != value:
            tell(f"--{name} {options[name]} in the config: {path} was trained with {value}, which is used instead.")
        options[name] = value
    options.data["base_model"] = options.model.base_model
    wandb_id: str | None = saved.get("wandb_id")
    return wandb_id


def check(command: str, name: str, given: Any, saved: Any, path: Path, architecture: dict[str, Any]) -> None:
    """Refuse a given value that contradicts the checkpoint; report one that `fit` uses instead of the saved one."""
    if name in FIXED_SHAPE:
        raise OnionError(f"--{name} {given}: {path} was trained with {saved}; give that value, or another checkpoint.")
    if name in SPLIT and command in HELD_OUT:
        raise OnionError(
            f"--{name} {given}: {path} was trained with {saved}, and another split would hold out rows it was trained on;"
            " omit the flag."
        )
    if name == "model.base_model" and not same_architecture(given, architecture):
        raise OnionError(
            f"--{name} {given}: {path} was trained for {saved}, a model with a different architecture; give that"
            " one, or another checkpoint."
        )
    if command == "fit":
        tell(f"--{name} {given}: the checkpoint was trained with {saved}; continuing with {given}.")
