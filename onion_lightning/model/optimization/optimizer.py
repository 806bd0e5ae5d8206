"""The optimizer: AdamW in 32 or 8 bit with a cosine schedule, and LoRA+, a higher learning rate for B."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from onion_lightning.errors import OnionError, check_range

__all__ = ["OptimizerName", "OptimizerSettings", "adamw_with_cosine", "check_optimizer_device", "total_steps"]

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]


@dataclass(frozen=True)
class OptimizerSettings:
    """How adapters are optimized.

    Attributes:
        learning_rate: at the peak.
        weight_decay: of AdamW.
        warmup_ratio: fraction of the steps for warmup.
        optimizer: adamw is that of torch; the others are those of bitsandbytes, with the state of every adapter weight of at
            least 4,096 values in 8 bit (Dettmers et al. 2022), in memory that is moved to the CPU when the GPU's is full
            (paged), or both.
        lora_plus_ratio: the learning rate of B divided by that of A (LoRA+, Hayou et al. 2024).
    """

    learning_rate: float
    weight_decay: float = 0.0
    warmup_ratio: float = 0.0
    optimizer: OptimizerName = "adamw"
    lora_plus_ratio: float = 1.0

    @property
    def learning_rates(self) -> list[float]:
        """Peak of each parameter group: of all adapter weights, or of all but B and of B."""
        both = [self.learning_rate, self.learning_rate * self.lora_plus_ratio]
        return both[:1] if self.lora_plus_ratio == 1 else both

    def check(self) -> None:
        """Raise an `OnionError` at a value out of range."""
        check_range("--model.learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        check_range("--model.weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        check_range("--model.warmup_ratio", self.warmup_ratio, 0 <= self.warmup_ratio <= 1, "from 0 to 1")
        check_range("--model.lora_plus_ratio", self.lora_plus_ratio, self.lora_plus_ratio > 0, "above 0")


def check_optimizer_device(optimizer: OptimizerName, device: torch.device) -> None:
    """Refuse an optimizer that has no effect on a device.

    Raises:
        OnionError: the state is paged, and the device is not a GPU.
    """
    if optimizer.startswith("paged") and device.type != "cuda":
        raise OnionError(
            f"--model.optimizer {optimizer}: moves its state between a GPU and the CPU, and training runs on the CPU; give"
            f" {optimizer.removeprefix('paged_')}."
        )


def total_steps(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps of the whole run.

    Raises:
        OnionError: the run has no end.
    """
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise OnionError(
            f"--trainer.max_epochs {trainer.max_epochs}: the learning rate schedule needs the number of training steps; set"
            " --trainer.max_epochs or --trainer.max_steps."
        )
    return int(steps)


def adamw_with_cosine(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], settings: OptimizerSettings, steps: int
) -> OptimizerLRSchedulerConfig:
    """Create AdamW, and a schedule of linear warmup and cosine decay to 0 that is stepped at each optimizer step.

    Args:
        parameters: with their names; those that require a gradient are optimized.
        settings: of the optimizer.
        steps: optimizer steps in total.
    """
    from transformers import get_cosine_schedule_with_warmup  # late: imports peft, see insertion.py

    trainable = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    parts = [[p for _, p in trainable]]
    if len(settings.learning_rates) == 2:
        parts = [[p for name, p in trainable if ("lora_B" in name) == is_b] for is_b in (False, True)]
    groups = [{"params": part, "lr": rate} for part, rate in zip(parts, settings.learning_rates, strict=True)]
    optimizer = optimizer_class(settings.optimizer)(groups, weight_decay=settings.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(settings.warmup_ratio * steps), steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def optimizer_class(name: OptimizerName) -> Any:
    import bitsandbytes.optim as bnb

    classes = {"adamw_8bit": bnb.AdamW8bit, "paged_adamw": bnb.PagedAdamW32bit, "paged_adamw_8bit": bnb.PagedAdamW8bit}
    return classes.get(name, torch.optim.AdamW)
