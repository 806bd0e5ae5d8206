"""Resolves each option: an explicit flag or YAML key overrides the checkpoint, which overrides the default.

What adapters cannot be loaded without (base model, rank, layers) comes from the checkpoint even if a YAML names another.
"""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from onion_lightning.cli.parsing.ignored import OBEYED
from onion_lightning.errors import OnionError, UsageError
from onion_lightning.evaluation.also import resolve_others
from onion_lightning.messages import tell
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.pretrained.adapter_folder import is_adapter_folder, read_adapter_folder, read_settings
from onion_lightning.pretrained.locate import same_architecture
from onion_lightning.training.checkpoint_io import read_checkpoint, resolve
from onion_lightning.training.peft_checkpoint import adapter_flags
from onion_lightning.training.run_folder import decoding_of_run

__all__ = ["apply_adapter", "apply_checkpoint"]

# Adapters of another shape cannot be loaded.
FIXED_SHAPE = ("model.lora_rank", "model.target_modules", "model.use_dora")
ADAPTERS = ("model.base_model", *FIXED_SHAPE)
# With another alpha or scaling, loaded adapters would start at another strength.
LOADED = (*ADAPTERS, "model.lora_alpha", "model.use_rslora")
SPLIT = ("data.val_fraction", "data.test_fraction")  # with another split, training rows would count as held out
TRAINING = ("fit", "plan", "preview")  # the commands that train, or show what training would see or take
HELD_OUT = ("validate", "test", "evaluate", "memorize")


def apply_checkpoint(
    command: str, options: Namespace, typed: set[str], configured: set[str], folder: Path
) -> str | None:
    """Resolve `--ckpt_path` and `--also`, and set the options that were not given to the checkpoint's values.

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
    if options.get("also"):
        options["also"] = resolve_others(options["also"], folder)
    asked = options.get("ckpt_path")
    if asked is None:
        return None
    path = resolve(asked, folder)
    if command in TRAINING and asked == "last" and not path.exists():
        tell(f"--ckpt_path last: {path} does not exist yet, so the run starts from scratch.")
        options["ckpt_path"] = None
        return None
    if command in TRAINING and is_adapter_folder(path):
        raise UsageError(
            f"--ckpt_path {asked}: is a folder of adapters, without the state of a run; give --model.adapter {asked}, which"
            " starts a new run from them."
        )
    saved = read_checkpoint(path)[CHECKPOINT_KEY]
    options["ckpt_path"] = str(path)
    values = saved["flags"] | (saved["training"] if command in TRAINING else {})
    values |= decoding_of_run(path) if command == "export" else {}
    if unknown := [name for name in values if name not in options]:
        raise OnionError(
            f"--ckpt_path {asked}: is of a run that learned preferences, with --{unknown[0]} {values[unknown[0]]}; give its"
            " --data.pairs to resume it, or start a new run from an export of it with --model.adapter."
        )
    for name, value in values.items():
        if name in typed or (name in configured and name not in ADAPTERS):
            if not same(options[name], value):
                check(command, name, options[name], value, path, saved["architecture"])
            continue
        if name in configured and not same(options[name], value):
            tell(f"--{name} {options[name]} in the config: {path} was trained with {value}, which is used instead.")
        options[name] = value
    options.data["base_model"] = options.model.base_model
    wandb_id: str | None = saved.get("wandb_id")
    return wandb_id


def apply_adapter(command: str, options: Namespace, typed: set[str], configured: set[str]) -> None:
    """Resolve `--model.adapter`, and set the options that describe its adapters to what they were trained with.

    Args:
        command: the subcommand.
        options: its configuration, changed in place. A resolved `--ckpt_path` replaces the adapters.
        typed: dotted names of the options that were given on the command line.
        configured: those that were given in a YAML file.

    Raises:
        OnionError: the adapters cannot be read or a typed value contradicts them, or the command does not train.
    """
    asked, options.model["adapter"] = options.model["adapter"], None
    if asked is not None and command not in (*TRAINING, *OBEYED) and "model.adapter" in typed:
        raise UsageError(
            f"--model.adapter {asked}: is for fit, and {command} uses trained adapters; give --ckpt_path {asked}."
        )
    if asked is None or options.get("ckpt_path") is not None:
        return
    if command not in TRAINING and "model.adapter" not in typed:
        return
    folder = Path(asked).expanduser()
    settings, adapters = read_settings(folder), read_adapter_folder(folder, "--model.adapter")
    if command not in TRAINING:
        return
    for name, value in adapter_flags(adapters, settings).items():
        if same(options[name], value) or (name in typed | configured and name not in LOADED):
            continue
        if name in typed:
            check_loaded(name, options[name], value, folder, settings.get("architecture"))
            continue
        if name in configured:
            tell(f"--{name} {options[name]} in the config: {folder} was trained with {value}, which is used instead.")
        options[name] = value
    options.data["base_model"] = options.model.base_model
    options.model["adapter"] = str(folder)


def check_loaded(name: str, given: Any, saved: Any, folder: Path, architecture: dict[str, Any] | None) -> None:
    """Refuse a typed value that contradicts the adapters in a folder. A base model may be in another place here."""
    if name != "model.base_model":
        raise OnionError(
            f"--{name} {given}: the adapters in {folder} were trained with {saved}; give that value, or omit the flag."
        )
    if architecture is not None and not same_architecture(given, architecture):
        raise OnionError(
            f"--{name} {given}: the adapters in {folder} were trained for {saved}, a model with a different architecture;"
            " give that one, or omit the flag."
        )


def same(given: Any, saved: Any) -> bool:
    """Whether two values mean the same. Names of layers are in any order."""
    both_lists = isinstance(given, list) and isinstance(saved, list)
    return sorted(given) == sorted(saved) if both_lists else given == saved


def check(command: str, name: str, given: Any, saved: Any, path: Path, architecture: dict[str, Any] | None) -> None:
    """Refuse a given value that contradicts the checkpoint; report one that `fit` uses instead of the saved one."""
    if name in FIXED_SHAPE:
        raise OnionError(f"--{name} {given}: {path} was trained with {saved}; give that value, or another checkpoint.")
    if name in SPLIT and command in HELD_OUT:
        raise OnionError(
            f"--{name} {given}: {path} was trained with {saved}, and another split would hold out rows it was trained on;"
            " omit the flag."
        )
    if name == "model.base_model" and architecture is not None and not same_architecture(given, architecture):
        raise OnionError(
            f"--{name} {given}: {path} was trained for {saved}, a model with a different architecture; give that"
            " one, or another checkpoint."
        )
    if command in TRAINING:
        tell(f"--{name} {given}: the checkpoint was trained with {saved}; continuing with {given}.")
