"""The optimizer step: the gradient scaler, the checks for steps that are not finite or train nothing, and what is logged."""

import contextlib
import math
from typing import Any

import lightning.pytorch as pl
import pynvml
import torch
import torch.distributed as dist

from onion_lightning.errors import NoGradientError, NonFiniteError

__all__ = [
    "HostCopy",
    "adapter_gradients",
    "check_finite",
    "check_not_zero",
    "gpu_stats",
    "gradient_scaler",
    "sum_over_ranks",
]

MAX_SKIPPED = 20  # in fp16, optimizer steps in a row: the scale falls from 65536 below 1


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
