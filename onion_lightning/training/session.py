"""Provides a device, the loggers and checkpoint loading to commands that need no Trainer.

Such a command runs with any config on any machine: of the config's `trainer` section, it uses the accelerator, the precision
and the loggers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger

from onion_lightning.messages import tell
from onion_lightning.model.base_model import best_precision
from onion_lightning.model.module import OnionModule
from onion_lightning.training.checkpoint_io import read_checkpoint

__all__ = ["Session", "TrainerFlags"]


@dataclass(frozen=True)
class TrainerFlags:
    """What a config asks of the Trainer, for a command that plans a run and builds none. The attributes are its arguments.

    Attributes:
        accelerator: gpu, cpu or auto.
        precision: one of those of `compute_dtype`, or what it refuses; None for the best of the device.
        devices: number of devices of a node; None for all of them.
        num_nodes: number of nodes.
        max_epochs: None for Lightning's default.
        max_steps: optimizer steps; -1 for no limit.
        limit_train_batches: micro-batches of an epoch on one device, or a fraction of it; None for all.
    """

    accelerator: str = "auto"
    precision: str | None = None
    devices: int | None = 1
    num_nodes: int = 1
    max_epochs: int | None = None
    max_steps: int = -1
    limit_train_batches: int | float | None = None


class Session:
    """Runs a command on one device, without a Trainer. `precision` may be set before a model is loaded, with `asked` if it is
    that of a flag or a config, and `flags` to those of the config.

    Args:
        loggers: those of the config.
        device: by default the GPU, or the CPU if there is none.
    """

    def __init__(self, loggers: Sequence[Logger] = (), device: torch.device | None = None) -> None:
        self.loggers = list(loggers)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = best_precision(self.device)
        self.asked = False
        self.flags = TrainerFlags()

    def load(self, model: OnionModule, ckpt_path: str | None) -> None:
        """Load the base model on the device, and a checkpoint's adapters into it; leaves the model in `eval()`.

        All weights are on this device, also with `--model.shard true`: this is printed.

        Raises:
            OnionError: the base model or the checkpoint cannot be loaded, or the adapters do not fit.
        """
        if model.shard:
            tell(
                f"--model.shard {str(model.shard).lower()}: this command runs in one process, which loads all weights; if"
                " they are more than its memory, export the adapters for a server that spreads them, such as vLLM."
            )
        model.load_base(self.device, self.precision)
        model.eval()
        if ckpt_path is not None:
            checkpoint = read_checkpoint(Path(ckpt_path))
            model.on_load_checkpoint(checkpoint)
            model.load_state_dict(checkpoint["state_dict"])
