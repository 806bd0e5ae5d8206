"""Plugins and callbacks that the tests add to a run: `--trainer.callbacks+=tests.gpu.plugins.CountBroadcasts`."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.plugins import MixedPrecision

from tests.gpu.conftest import DEVICE


class ScaledHalf(MixedPrecision):
    """float16 with a gradient scaler, on the CPU as well: Lightning has only bfloat16 there.

    Args:
        init_scale: first factor of the scaler.
    """

    def __init__(self, init_scale: float = 65536.0) -> None:
        super().__init__("16-mixed", DEVICE.type, torch.amp.GradScaler(DEVICE.type, init_scale=init_scale))


class CountBroadcasts(pl.Callback):
    """Writes the bytes that DDP broadcasts from rank 0 when it starts, and those of the frozen weights, to a file.

    Args:
        path: of the JSON file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.sent = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        original = dist._broadcast_coalesced

        def counted(group: Any, tensors: list[torch.Tensor], *more: Any) -> Any:
            self.sent += size(tensors)
            return original(group, tensors, *more)

        dist._broadcast_coalesced = counted

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            frozen = size([p for p in pl_module.parameters() if not p.requires_grad])
            Path(self.path).write_text(json.dumps({"sent": self.sent, "frozen": frozen}))


def size(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
