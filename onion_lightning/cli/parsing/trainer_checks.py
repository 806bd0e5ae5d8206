"""Checks the Trainer's flags: those out of range, and those that this project makes meaningless or does not support."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from onion_lightning.cli.parsing.ignored import OBEYED
from onion_lightning.errors import OnionError, UsageError
from onion_lightning.private_api import starts_ranks_midway

__all__ = [
    "check_callbacks",
    "check_strategy",
    "check_strategy_class",
    "check_strategy_name",
    "check_trainer",
]

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
# Callbacks that are refused: why, and what to do instead.
REFUSED: dict[type[Callback], str] = {
    GradientAccumulationScheduler: "accumulation is derived from --data.global_batch_size; set that flag",
    BatchSizeFinder: "the global batch would change while it is searched; set --data.batch_size",
    LearningRateFinder: "it trains the adapters before step 1; set --model.learning_rate",
    StochasticWeightAveraging: "it replaces the learning rate schedule, and its average is not in last.ckpt; remove it",
    WeightAveraging: "it copies the frozen weights, and a run with it does not resume exactly; remove it",
    BaseFinetuning: "the base model stays frozen, and only adapters are trained; remove it",
    ModelPruning: "the base model stays frozen, and pruned adapters cannot be loaded; remove it",
    Timer: "a run with it cannot be written to config.yaml; set --trainer.max_time",
    OnExceptionCheckpoint: "last.ckpt is the last completed step, and a later fit would load its file; remove it",
}
STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
LIMITS = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


def check_trainer(command: str, trainer: Mapping[str, Any], typed: Collection[str], given: Collection[str]) -> None:
    """Check the Trainer's flags.

    Args:
        command: the command.
        trainer: the Trainer's arguments.
        typed: dotted names of the options on the command line.
        given: dotted names of the options that were given, by flag or YAML.

    Raises:
        UsageError: a value is out of range, has no effect, or `fit` would train nothing; other commands take the same line.
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
    check_overfit(trainer["overfit_batches"])
    check_clipping(trainer)
    if command == "fit" or command in OBEYED:
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


def check_overfit(batches: int | float) -> None:
    """Refuse a flag that replaces the sampler of the global batches.

    Raises:
        OnionError: it was given.
    """
    if batches:
        raise OnionError(
            f"--trainer.overfit_batches {batches}: is not supported, because global batches contain all rows; omit the"
            " flag, and give a file with a few rows to --data.path."
        )


def check_callbacks(kinds: Iterable[type[Callback]], enable_checkpointing: bool | None) -> None:
    """Refuse classes of Lightning's callbacks that contradict adapters, exact resume or the fixed global batch.

    Raises:
        OnionError: one of them was given, or one that writes checkpoints although that is turned off.
    """
    for kind in kinds:
        for refused, why in REFUSED.items():
            if issubclass(kind, refused):
                raise OnionError(f"--trainer.callbacks {kind.__name__}: is not supported: {why}.")
        if enable_checkpointing is False and issubclass(kind, Checkpoint):
            raise OnionError(
                f"--trainer.enable_checkpointing False: contradicts --trainer.callbacks {kind.__name__}; remove one of"
                " them."
            )


def check_strategy_name(asked: Any) -> None:
    """Refuse a strategy by its name, before Lightning looks for what it needs; for the reasons see `check_strategy`.

    Raises:
        OnionError: it is neither one device nor DDP with a process per rank.
    """
    if isinstance(asked, str) and asked not in STRATEGIES:
        raise unsupported_strategy(asked)


def check_strategy(strategy: Strategy, asked: Any) -> None:
    """Refuse strategies that would shard the frozen weights, or would start ranks in the middle of this program.

    Raises:
        OnionError: the strategy is neither one device nor DDP with a process per rank.
    """
    check_strategy_class(type(strategy), asked)
    if starts_ranks_midway(strategy):
        raise unsupported_strategy(asked)


def check_strategy_class(kind: type[Strategy], asked: Any = None) -> None:
    """Refuse a strategy by its class.

    Raises:
        OnionError: it is neither one device nor DDP.
    """
    if not issubclass(kind, SingleDeviceStrategy | DDPStrategy):
        raise unsupported_strategy(asked or kind.__name__)


def unsupported_strategy(asked: Any) -> OnionError:
    shards = re.search("fsdp|deepspeed|model_parallel", str(asked), re.IGNORECASE)
    more = (
        ", and --model.shard true to spread the frozen weights over the ranks" if shards else ", or auto on one device"
    )
    return OnionError(f"--trainer.strategy {asked}: is not supported; give ddp{more}.")
