"""Trains three real optimizer steps on this machine, to compare their time and memory with the prediction."""

import contextlib
import time
from dataclasses import dataclass, replace

import torch

from onion_lightning.data.collate import Batch
from onion_lightning.heartbeat import log_line
from onion_lightning.model.base_model import compute_dtype
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimization.optimizer import adamw_with_cosine
from onion_lightning.planning.memory import MemoryPlan
from onion_lightning.planning.report.cost import Range
from onion_lightning.planning.report.target import Target
from onion_lightning.planning.training_step import full_batch
from onion_lightning.pretrained.locate import load_tokenizer
from onion_lightning.process_memory import (
    peak_so_far,
    release_memory,
    return_freed_memory,
    status,
)

__all__ = ["LIBRARIES", "STEPS", "Probe", "run_probe"]

STEPS = 3
LIBRARIES = 30_000_000  # bytes that libraries allocate when a process first trains on a CPU: 20 to 45 MB were measured


@dataclass(frozen=True)
class Probe:
    """What three optimizer steps of one micro-batch took on this machine.

    Attributes:
        device: of this machine, in words.
        precision: as --trainer.precision.
        rows: of the micro-batch.
        length: of each row in tokens.
        seconds: of each step. The first one includes what libraries prepare.
        predicted_seconds: of a step, from the least to the most; None if the rate of the device is unknown.
        peak: bytes, as torch's allocator counts them on a GPU, and as the process grew on a CPU; None if it is not known.
        predicted_peak: bytes; on a CPU with what libraries allocate.
    """

    device: str
    precision: str
    rows: int
    length: int
    seconds: list[float]
    predicted_seconds: Range | None
    peak: int | None
    predicted_peak: int


def run_probe(
    module: OnionModule,
    device: torch.device,
    target: Target,
    plan: MemoryPlan,
    seconds: Range | None,
    shape: tuple[int, int],
    steps: int = STEPS,
) -> Probe:
    """Load the base model and train it on a full micro-batch. Its adapters change; nothing is written.

    Args:
        module: without a base model.
        device: of this machine.
        target: that device, as the prediction knows it.
        plan: the prediction for it.
        seconds: predicted for a step of one micro-batch.
        shape: rows of the micro-batch, and tokens of each.
        steps: number of optimizer steps.
    """
    return_freed_memory()
    module.tokenizer = load_tokenizer(module.base_model)  # loading the model replaces it; its memory is not predicted
    before = start_of_memory(device)
    module.load_base(device, target.precision)
    release_memory()
    batch = full_batch(*shape, device)
    settings = replace(module.optimization, warmup_ratio=0.0)  # otherwise the first step would change nothing
    optimizer = adamw_with_cosine(module.named_parameters(), settings, steps)["optimizer"]
    scaler = torch.amp.GradScaler(device.type, enabled=target.precision == "16-mixed")
    restart_peak(device)
    taken = []
    for number in range(steps):
        began = time.perf_counter()
        train_step(module, batch, optimizer, scaler, compute_dtype(target.precision))
        wait_for(device)
        taken.append(time.perf_counter() - began)
        log_line(f"probe: step {number + 1} of {steps} took {taken[-1]:.1f} s")
    peak = peak_memory(device)
    return Probe(
        device=target.name,
        precision=target.precision,
        rows=shape[0],
        length=shape[1],
        seconds=taken,
        predicted_seconds=seconds,
        peak=None if peak is None or before is None else peak - before,
        predicted_peak=plan.total + (LIBRARIES if device.type == "cpu" else 0),
    )


def train_step(
    module: OnionModule,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    dtype: torch.dtype,
) -> None:
    """Take an optimizer step on one micro-batch, as `fit` does."""
    optimizer.zero_grad()
    with torch.autocast(module.device.type, dtype, enabled=dtype != torch.float32):
        loss = module.loss_sum(batch) / batch["supervised"]
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def start_of_memory(device: torch.device) -> int | None:
    """Return the memory in use in bytes; None if it is not known."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    release_memory()
    try:
        return status("VmRSS")
    except OSError:
        return None


def restart_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            peak_so_far()


def peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return status("VmHWM")
    except OSError:
        return None


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
