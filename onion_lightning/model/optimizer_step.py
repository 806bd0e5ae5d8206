"""The optimizer step: AdamW with a cosine schedule, the check for non-finite values, and GPU statistics to log."""

import contextlib
import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import pynvml
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from onion_lightning.errors import NoGradientError, NonFiniteError, OnionError, check_range

__all__ = [
    "HostCopy",
    "adamw_with_cosine",
    "adapter_gradients",
    "check_finite",
    "check_not_zero",
    "check_optimizer_flags",
    "gpu_stats",
    "gradient_scaler",
    "sum_over_ranks",
    "total_steps",
]

MAX_SKIPPED = 20  # in fp16, optimizer steps in a row: the scale falls from 65536 below 1


def check_optimizer_flags(learning_rate: float, weight_decay: float, warmup_ratio: float) -> None:
    """Raise an `OnionError` at a value out of range."""
    check_range("--model.learning_rate", learning_rate, learning_rate > 0, "above 0")
    check_range("--model.weight_decay", weight_decay, weight_decay >= 0, "at least 0")
    check_range("--model.warmup_ratio", warmup_ratio, 0 <= warmup_ratio <= 1, "from 0 to 1")


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
    parameters: Iterable[torch.nn.Parameter], learning_rate: float, weight_decay: float, warmup_ratio: float, steps: int
) -> OptimizerLRSchedulerConfig:
    """Create AdamW, and a schedule of linear warmup and cosine decay to 0 that is stepped at each optimizer step.

    Args:
        parameters: those that require a gradient are optimized.
        learning_rate: at the peak.
        weight_decay: of AdamW.
        warmup_ratio: fraction of the steps for warmup.
        steps: optimizer steps in total.
    """
    from transformers import get_cosine_schedule_with_warmup  # late: imports peft, see adapters.py

    trainable = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(warmup_ratio * steps), steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def gradient_scaler(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    """Return the gradient scaler of fp16; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


class HostCopy:
    """Copies values to the host while the device works, and waits for the copy only when they are read.

    Args:
        values: on any device, (values,).
    """

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values.to("cpu", non_blocking=True)
        self.copied = torch.cuda.Event() if values.is_cuda else None
        if self.copied is not None:
            self.copied.record()

    def read(self) -> list[float]:
        if self.copied is not None:
            self.copied.synchronize()
        found: list[float] = self.values.tolist()
        return found


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Add up a value of all ranks, in place. Unlike Lightning's `reduce`, it does not make the host wait for the device."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(value)
    return value


def check_finite(module: Any, loss: float, gradient_norm: float) -> None:
    """Stop training at a loss or gradient that is not finite.

    Args:
        module: the `OnionModule` in training.
        loss: of the optimizer step.
        gradient_norm: may be infinite in fp16, where the gradient scaler skips such steps.

    Raises:
        NonFiniteError: one of them is not finite, or the scaler has skipped too many steps in a row.
    """
    scales = gradient_scaler(module.trainer) is not None and module.skipped_in_a_row < MAX_SKIPPED
    if math.isfinite(loss) and (math.isfinite(gradient_norm) or scales):
        return
    trainer, position = module.trainer, module.attempted_steps - module.epoch_began
    headlines = trainer.datamodule.headlines_of(module.current_epoch, position)
    raise NonFiniteError(
        f"--model.learning_rate {module.learning_rate}: at optimizer step {trainer.global_step + 1} (epoch"
        f" {module.current_epoch}) the loss is {loss:.4g} and the gradient norm {gradient_norm:.4g};"
        " no checkpoint was overwritten; lower the learning rate, or inspect the rows of this step:"
        f" {'; '.join(headlines)}."
    )


def adapter_gradients(module: Any) -> list[torch.Tensor]:
    """Return the gradients of all adapter weights.

    Args:
        module: the `OnionModule` in training, after the backward pass.

    Raises:
        NoGradientError: one has none.
    """
    gradients = [parameter.grad for parameter in module.parameters() if parameter.requires_grad]
    found = [gradient for gradient in gradients if gradient is not None]
    if len(found) < len(gradients):
        missing = len(gradients) - len(found)
        raise nothing_to_train(module, f"{missing} of {len(gradients)} adapter weights have no gradient")
    return found


def check_not_zero(module: Any, gradient_norm: float) -> None:
    """Stop training at a step that trains nothing.

    Args:
        module: the `OnionModule` in training.
        gradient_norm: of all adapters.

    Raises:
        NoGradientError: the norm is exactly zero.
    """
    if gradient_norm == 0:
        raise nothing_to_train(module, "all gradients are zero")


def nothing_to_train(module: Any, found: str) -> NoGradientError:
    return NoGradientError(
        f"--model.load_in {module.load_in}: at optimizer step {module.trainer.global_step + 1} {found}, so nothing would"
        " be trained; no checkpoint was overwritten; try another --model.load_in, and report this with the versions of"
        " torch, bitsandbytes and peft."
    )


def gpu_stats(device: torch.device) -> dict[str, float]:
    """Return the peak of reserved GPU memory in GB and, where available, the GPU utilization in percent.

    The utilization is the share of the last second in which a kernel was running. Drivers under MIG and WSL do not report
    it. On the CPU there are no statistics.
    """
    if device.type != "cuda":
        return {}
    stats = {"gpu/memory_gb": torch.cuda.max_memory_reserved(device) / 1e9}
    with contextlib.suppress(RuntimeError, ModuleNotFoundError, pynvml.NVMLError):
        stats["gpu/utilization"] = float(torch.cuda.utilization(device))
    return stats
