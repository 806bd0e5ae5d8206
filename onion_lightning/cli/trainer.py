"""Derives the Trainer's arguments from the configuration and the machine."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from onion_lightning.cli.launchers import count_devices
from onion_lightning.cli.parsing.wording import explain_trainer
from onion_lightning.errors import OnionError, check_range, sentence
from onion_lightning.messages import is_rank_zero, tell
from onion_lightning.model.base_model import best_precision, compute_dtype, has_bfloat16
from onion_lightning.private_api import starts_ranks_midway
from onion_lightning.training.session import TrainerFlags
from onion_lightning.training.wandb_logger import CarefulWandbLogger, why_offline

__all__ = [
    "as_list",
    "best_checkpoint",
    "build_loggers",
    "check_callbacks",
    "check_overfit",
    "check_strategy",
    "check_strategy_name",
    "choose_accelerator",
    "choose_precision",
    "explain",
    "prepare_wandb",
    "session_device",
    "trainer_flags",
    "training_device",
    "wandb_arguments",
]

ALIASES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}  # those of Lightning

STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")

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


def check_callbacks(configured: Sequence[Callback], enable_checkpointing: bool | None) -> None:
    """Refuse Lightning's callbacks that contradict adapters, exact resume or the fixed global batch.

    Raises:
        OnionError: one of them was given, or one that writes checkpoints although that is turned off.
    """
    for callback in configured:
        name = type(callback).__name__
        for kind, why in REFUSED.items():
            if isinstance(callback, kind):
                raise OnionError(f"--trainer.callbacks {name}: is not supported: {why}.")
        if enable_checkpointing is False and isinstance(callback, Checkpoint):
            raise OnionError(
                f"--trainer.enable_checkpointing False: contradicts --trainer.callbacks {name}; remove one of them."
            )


def choose_accelerator(asked: Any) -> Any:
    """Return `gpu` or `cpu` for `auto`.

    Raises:
        OnionError: another kind of accelerator was asked for.
    """
    if asked == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if asked not in ("cpu", "gpu", "cuda"):
        raise OnionError(f"--trainer.accelerator {asked}: is not supported; give gpu, cpu or auto.")
    return asked


def choose_precision(asked: Any, device: torch.device) -> str:
    """Return the precision that was asked for, or what this CPU has instead of it; the best of the device by default.

    Raises:
        OnionError: adapters would not be in float32, or the GPU only emulates bfloat16.
    """
    if asked is None:
        return best_precision(device)
    precision = ALIASES.get(str(asked), str(asked))
    compute_dtype(precision)
    if device.type == "cuda" and precision == "bf16-mixed" and not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise OnionError(f"--trainer.precision {asked}: {name} has no bfloat16; give 16-mixed, or omit the flag.")
    if device.type == "cpu" and precision != "32-true" and precision != (found := best_precision(device)):
        tell(f"--trainer.precision {asked}: this CPU computes faster in {found}, which is used instead.")
        return found
    return precision


def training_device(accelerator: Any) -> torch.device:
    """Return the kind of device that a Trainer with this accelerator would use; the CPU if there is no GPU."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def session_device(accelerator: Any, typed: Collection[str]) -> torch.device:
    """Return the device of a command without a Trainer. With a config written for GPUs, it is the CPU if there is none.

    Raises:
        OnionError: an accelerator that this machine lacks was given on the command line.
    """
    device = training_device(choose_accelerator(accelerator))
    if "trainer.accelerator" in typed and accelerator in ("gpu", "cuda") and device.type == "cpu":
        raise OnionError(f"--trainer.accelerator {accelerator}: there is no GPU; give cpu, or omit the flag.")
    return device


def trainer_flags(options: Any) -> TrainerFlags:
    """Return what a configuration's `trainer` section asks for.

    Raises:
        OnionError: a number, the accelerator or the strategy is not possible.
    """
    devices = count_devices(options.devices)
    least = {"devices": (devices, 1), "num_nodes": (options.num_nodes, 1)}
    least |= {"max_epochs": (options.max_epochs, -1), "max_steps": (options.max_steps, -1)}
    for name, (number, smallest) in least.items():
        check_range(f"--trainer.{name}", options[name], number is None or number >= smallest, f"at least {smallest}")
    if options.accelerator == "cpu":  # -1 and lists choose among GPUs
        countable = str(options.devices) == "auto" or str(options.devices).isdigit()
        check_range(
            "--trainer.devices", options.devices, countable, "a number of processes for --trainer.accelerator cpu"
        )
    limit = options.limit_train_batches
    good = limit is None or (limit > 0 and (limit <= 1 or isinstance(limit, int)))
    check_range("--trainer.limit_train_batches", limit, good, "a number of micro-batches, or a fraction up to 1.0")
    choose_accelerator(options.accelerator)
    check_strategy_name(options.strategy)
    asked = options.precision
    return TrainerFlags(
        accelerator=str(options.accelerator),
        precision=None if asked is None else ALIASES.get(str(asked), str(asked)),
        devices=devices,
        num_nodes=options.num_nodes,
        max_epochs=options.max_epochs,
        max_steps=options.max_steps,
        limit_train_batches=options.limit_train_batches,
    )


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [value]


def wandb_arguments(configured: Any) -> list[Namespace]:
    """Return the `init_args` of each WandbLogger in the configuration's `trainer.logger`."""
    loggers = [one for one in as_list(configured) if isinstance(one, Namespace)]
    return [one["init_args"] for one in loggers if one["class_path"].endswith(f".{WandbLogger.__name__}")]


def prepare_wandb(arguments: Namespace, run: str | None) -> None:
    """Continue a checkpoint's W&B run; work offline where W&B cannot be reached.

    Args:
        arguments: of a WandbLogger, changed in place.
        run: the id of the checkpoint's W&B run, if any.
    """
    if run:
        arguments["id"] = run
    if not arguments.get("offline") and is_rank_zero() and (reason := why_offline()):
        arguments["offline"] = True
        tell(f"W&B is offline: {reason}. Upload the run later with `wandb sync`.")
    if arguments.get("offline"):
        os.environ.setdefault("WANDB_SILENT", "true")  # otherwise W&B prints eight lines about syncing
    for kind in ("DATA", "CACHE"):  # it would write into the home folder
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(Path(arguments.get("save_dir") or ".") / "wandb"))


def build_loggers(configured: Any, built: Any) -> list[Logger] | bool | None:
    """Replace each WandbLogger by one that a run does not depend on.

    jsonargparse finds W&B's own options in Lightning's class alone, so the subclass is built here from what was parsed.

    Args:
        configured: the configuration's `trainer.logger`.
        built: what the parser built from it.
    """
    if built is None or isinstance(built, bool):
        return built
    arguments = iter(wandb_arguments(configured))
    return [
        CarefulWandbLogger(**next(arguments).as_dict()) if type(one) is WandbLogger else one for one in as_list(built)
    ]


def best_checkpoint(folder: Path) -> ModelCheckpoint:
    """Return the callback that keeps `best.ckpt`: the lowest validation loss."""
    return ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/loss",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
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
    known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not known or starts_ranks_midway(strategy):
        raise unsupported_strategy(asked)


def unsupported_strategy(asked: Any) -> OnionError:
    return OnionError(f"--trainer.strategy {asked}: is not supported; give ddp, or auto on one device.")


def explain(error: Exception, config: dict[str, Any]) -> OnionError:
    """Return Lightning's error about the Trainer's arguments as a sentence that names the flags."""
    if not re.search("accelerator|device|backend|GPU|CUDA|MPS|TPU", str(error)):
        return explain_trainer(error, config)
    machine = f"--trainer.devices {config['devices']} and --trainer.strategy {config['strategy']}"
    remedy = "without a GPU, use --trainer.accelerator cpu or configs/cpu.yaml"
    if config["accelerator"] == "cpu":
        remedy = "give the number of processes, at least 1"
    return OnionError(
        f"--trainer.accelerator {config['accelerator']} with {machine}: {sentence(error).rstrip('.')}; {remedy}."
    )
