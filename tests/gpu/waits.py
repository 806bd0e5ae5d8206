"""Counts how often the host waits for the device in a training step.

A wait empties the device's queue of kernels, which then idles until the host has filled it again.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu.conftest import DEVICE

aten = torch.ops.aten
TORCH = str(Path(torch.__file__).parent)
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)
INDEXES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class CudaWaits:
    """Collects the places of CUDA's waits: torch warns of each."""

    def __init__(self) -> None:
        self.places: list[str] = []

    def __enter__(self) -> "CudaWaits":
        self.catcher = warnings.catch_warnings(record=True)
        self.caught = self.catcher.__enter__() or []
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self.catcher.__exit__(*error)
        found = [one for one in self.caught if "called a synchronizing CUDA operation" in str(one.message)]
        self.places += [place(one.filename, one.lineno) for one in found]


class CpuWaits(TorchDispatchMode):
    """Collects the places of operations that would wait on CUDA: the host reads a value, or a shape depends on one.

    The copies to the device that wait (`torch.tensor(value, device="cuda")`) cannot be seen here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in READS or (func in INDEXES and any(is_mask(index) for index in args[1])):
            self.places += [found for found in (caller(),) if found is not None]
        return func(*args, **(kwargs or {}))


def is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def caller() -> str | None:
    """Return the innermost line of Python outside of torch; None in AdamW, which keeps its number of steps on the host."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and TORCH in frame.f_code.co_filename:
        if "/optim/adam" in frame.f_code.co_filename:
            return None
        frame = frame.f_back
    return None if frame is None else place(frame.f_code.co_filename, frame.f_lineno)


def place(file: str, line: int) -> str:
    return f"{'/'.join(Path(file).parts[-3:])}:{line}"


WAITS: Callable[[], CudaWaits | CpuWaits] = CudaWaits if DEVICE.type == "cuda" else CpuWaits


class CountWaits(pl.Callback):
    """Collects the waits of each micro-batch (forward and backward), and those of each optimizer step after it."""

    micro_batches: list[list[str]]
    steps: list[list[str]]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        CountWaits.micro_batches, CountWaits.steps = [], []

    def on_train_batch_start(self, *args: Any) -> None:
        self.waits = WAITS().__enter__()

    def on_after_backward(self, *args: Any) -> None:
        self.waits.__exit__(None, None, None)
        self.micro_batches.append(self.waits.places)
        self.waits = WAITS().__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.waits.__exit__(None, None, None)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.steps.append(self.waits.places)
        else:
            self.micro_batches[-1] += self.waits.places
