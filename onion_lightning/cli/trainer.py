"""Derives the Trainer's arguments from the configuration and the machine."""

import importlib
import os
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger

from onion_lightning.cli.launchers import count_devices
from onion_lightning.cli.parsing.ignored import ignored_flags
from onion_lightning.cli.parsing.trainer_checks import check_callbacks, check_strategy_class, check_strategy_name
from onion_lightning.cli.parsing.wording import explain_trainer
from onion_lightning.errors import OnionError, check_range, sentence
from onion_lightning.messages import is_rank_zero, tell
from onion_lightning.model.base_model import best_precision, compute_dtype, has_bfloat16
from onion_lightning.training.session import TrainerFlags
from onion_lightning.training.wandb_logger import CarefulWandbLogger, why_offline

__all__ = [
    "as_list",
    "best_checkpoint",
    "build_loggers",
    "choose_accelerator",
    "choose_precision",
    "explain",
    "prepare_wandb",
    "session_device",
    "take_line_of_fit",
    "trainer_flags",
    "training_device",
    "wandb_arguments",
]

# Arguments that Lightning's Trainer checks itself, whatever the machine.
CHECKED = (
    *("fast_dev_run", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches"),
    *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "val_check_interval"),
    *("check_val_every_n_epoch", "gradient_clip_val", "gradient_clip_algorithm"),
)
SILENT: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
ALIASES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}  # those of Lightning


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


def take_line_of_fit(command: str, options: Namespace, typed: Collection[str]) -> None:
    """Let a command that builds no Trainer take the command line of `fit`, and report the flags that it ignores.

    Args:
        command: one of `SESSION_COMMANDS`.
        options: its configuration.
        typed: dotted names of the options on the command line.

    Raises:
        OnionError: `fit` would refuse a flag of the Trainer on any machine.
    """
    check_as_fit(options.trainer)
    if ignored := ignored_flags(command, vars(options), typed):
        tell(f"{command} ignores flags that have no effect in it: {', '.join(ignored)}.")


def check_as_fit(options: Namespace) -> None:
    """Check a configuration's `trainer` section without building its classes, which may need what this machine lacks."""
    trainer_flags(options)
    if options.precision is not None:
        compute_dtype(ALIASES.get(str(options.precision), str(options.precision)))
    if isinstance(options.strategy, Namespace):
        check_strategy_class(class_of(options.strategy))
    check_callbacks(map(class_of, as_list(options.callbacks or [])), options.enable_checkpointing)
    checked = {name: options[name] for name in CHECKED}
    if isinstance(options.profiler, str):
        checked["profiler"] = options.profiler
    try:
        with warnings.catch_warnings(action="ignore"):  # a GPU is not used, ...
            pl.Trainer(accelerator="cpu", devices=1, plugins=[LightningEnvironment()], **SILENT, **checked)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise explain(error, options.as_dict()) from error


def class_of(configured: Namespace) -> type:
    """Return the class that a configuration describes by its import path."""
    module, _, name = configured["class_path"].rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


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


def explain(error: Exception, config: dict[str, Any]) -> OnionError:
    """Return Lightning's error about the Trainer's arguments as a sentence that names the flags."""
    if not re.search("accelerator|device|backend|GPU|CUDA|MPS|TPU", str(error)):
        return explain_trainer(error, config)
    machine = f"--trainer.devices {config['devices']} and --trainer.strategy {config['strategy']}"
    remedy = "without a GPU, use --trainer.accelerator cpu or --config cpu"
    if config["accelerator"] == "cpu":
        remedy = "give the number of processes, at least 1"
    return OnionError(
        f"--trainer.accelerator {config['accelerator']} with {machine}: {sentence(error).rstrip('.')}; {remedy}."
    )
