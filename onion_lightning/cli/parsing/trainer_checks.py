"""Checks the Trainer's flags before anything is built: those out of range, and those that this project makes meaningless."""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from onion_lightning.errors import UsageError

__all__ = ["check_trainer", "check_without_trainer"]

LEAST = {
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 0,
    "check_val_every_n_epoch": 1,
    "min_epochs": 0,
    "min_steps": 0,
    "reload_dataloaders_every_n_epochs": 0,
}
# Flags that are refused where they are turned on: why, and what to do instead.
MEANINGLESS = {
    "barebones": "checkpoints, logs and validation are part of a run; omit it",
    "model_registry": "checkpoints are files in --checkpoint.dirpath; omit it",
    "reload_dataloaders_every_n_epochs": "the rows do not change during a run; omit it",
    "sync_batchnorm": "a Llama has no batch normalization; omit it",
    "use_distributed_sampler": "the data module assigns rows to ranks; omit it",
}
# Flags of the Trainer that the commands obey which run without one.
OBEYED = {
    "attend": {"accelerator", "precision", "logger", "enable_progress_bar"},
    "export": {"logger", "enable_progress_bar"},
    "plan": {
        *("accelerator", "precision", "devices", "num_nodes", "strategy"),
        *("max_epochs", "max_steps", "limit_train_batches", "enable_progress_bar"),
    },
    "preview": {"enable_progress_bar"},
    "serve": {"accelerator", "precision", "enable_progress_bar"},
    "verify": {"accelerator", "precision", "enable_progress_bar"},
}
LIMITS = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


def check_trainer(command: str, trainer: Mapping[str, Any], typed: Collection[str], given: Collection[str]) -> None:
    """Check the Trainer's flags.

    Args:
        command: the command.
        trainer: the Trainer's arguments.
        typed: dotted names of the options on the command line.
        given: dotted names of the options that were given, by flag or YAML.

    Raises:
        UsageError: a value is out of range, has no effect, or `fit` would train nothing, as asked or as planned.
    """
    for name, least in LEAST.items():
        value = trainer[name]
        if value is not None and value < least:
            raise UsageError(f"--trainer.{name} {value}: must be at least {least}.")
    for name, why in MEANINGLESS.items():
        if trainer[name] and f"trainer.{name}" in given:
            raise UsageError(f"--trainer.{name} {trainer[name]}: is not supported: {why}.")
    if trainer["val_check_interval"] in (0, timedelta(0)):
        raise UsageError(
            "--trainer.val_check_interval 0: must be above 0; to train without validation, give --trainer.limit_val_batches"
            " 0."
        )
    check_clipping(trainer)
    if command in ("fit", "plan"):
        check_trains(trainer)
    elif command in LIMITS:
        check_without_fit(command, trainer, typed)


def check_without_fit(command: str, trainer: Mapping[str, Any], typed: Collection[str]) -> None:
    if trainer["logger"] and any(name.startswith("trainer.logger") for name in typed):
        raise UsageError(f"--trainer.logger: has no effect, because {command} logs nothing; omit the flag.")
    if (value := trainer[LIMITS[command]]) == 0:
        raise UsageError(
            f"--trainer.{LIMITS[command]} {value:g}: {command} would do nothing; give more, or omit the flag."
        )


def check_trains(trainer: Mapping[str, Any]) -> None:
    for name in ("max_epochs", "max_steps", "max_time", "limit_train_batches"):
        value = trainer[name]
        nothing = isinstance(value, dict) and not any(value.values())
        if value in (0, timedelta(0)) or nothing or (name == "max_time" and re.fullmatch(r"[0:]+", str(value))):
            raise UsageError(f"--trainer.{name} {value}: fit would train nothing; give more, or use validate.")


def check_clipping(trainer: Mapping[str, Any]) -> None:
    limit, algorithm = trainer["gradient_clip_val"], trainer["gradient_clip_algorithm"]
    if limit is not None and not limit >= 0:  # also not NaN
        raise UsageError(f"--trainer.gradient_clip_val {limit:g}: must be at least 0, which turns clipping off.")
    if algorithm is not None and not limit:
        raise UsageError(
            f"--trainer.gradient_clip_algorithm {algorithm}: has no effect without --trainer.gradient_clip_val; give both."
        )


def check_without_trainer(command: str, trainer: Mapping[str, Any], typed: Collection[str]) -> None:
    """Check the Trainer's flags of a command that runs without one. Those of a YAML file may have been written for others.

    Raises:
        UsageError: a flag on the command line has no effect.
    """
    for name in sorted(typed):
        section, _, flag = name.partition(".")
        if flag == "logger" and not trainer["logger"]:
            continue
        if section == "trainer" and flag.split(".")[0] not in OBEYED[command]:
            raise UsageError(
                f"--{name}: has no effect, because {command} runs on one device without a Trainer; omit it."
            )
