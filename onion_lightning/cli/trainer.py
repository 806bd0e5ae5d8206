"""Derives the Trainer's arguments from the configuration and the machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from onion_lightning.errors import OnionError, sentence
from onion_lightning.messages import tell
from onion_lightning.model.base_model import has_bfloat16
from onion_lightning.private_api import starts_ranks_midway
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["best_checkpoint", "build_loggers", "check_strategy", "choose_precision", "explain", "wandb_arguments"]


def choose_precision(asked: Any, accelerator: str) -> Any:
    """Return the precision that was asked for, or what this CPU has instead of float16."""
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if not on_cpu or asked not in ("16-mixed", "16", 16, "bf16-mixed", "bf16"):
        return asked
    if has_bfloat16(torch.device("cpu")):
        return "bf16-mixed"
    tell(f"--trainer.precision {asked}: this CPU does not support bfloat16 in hardware; using 32-true.")
    return "32-true"


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [value]


def wandb_arguments(configured: Any) -> list[Namespace]:
    """Return the `init_args` of each WandbLogger in the configuration's `trainer.logger`."""
    loggers = [one for one in as_list(configured) if isinstance(one, Namespace)]
    return [one["init_args"] for one in loggers if one["class_path"].endswith(f".{WandbLogger.__name__}")]


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


def check_strategy(strategy: Strategy, asked: Any) -> None:
    """Refuse strategies that would shard the frozen weights, or would start ranks in the middle of this program.

    Raises:
        OnionError: the strategy is neither one device nor DDP with a process per rank.
    """
    known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not known or starts_ranks_midway(strategy):
        raise OnionError(f"--trainer.strategy {asked}: is not supported; give ddp, or auto on one device.")


def explain(error: Exception, config: dict[str, Any]) -> OnionError:
    """Return Lightning's error about the Trainer's arguments as a sentence that names the flags."""
    if not re.search("accelerator|device|backend|GPU|CUDA|MPS|TPU", str(error)):
        return OnionError(f"--trainer: {sentence(error)}")
    machine = f"--trainer.devices {config['devices']} and --trainer.strategy {config['strategy']}"
    return OnionError(
        f"--trainer.accelerator {config['accelerator']} with {machine}: {sentence(error).rstrip('.')}; without a GPU, use"
        " --trainer.accelerator cpu or configs/cpu.yaml."
    )
