"""A callback that counts what the ranks of a run send each other: `--trainer.callbacks+=tests.benchmarks.traffic.Traffic`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "broadcast",
    "reduce",
    "reduce_scatter_tensor",
    "send",
)


class Traffic(pl.Callback):
    """Writes bytes, steps and seconds of an epoch to a JSON file.

    A rank's part in a collective counts as the size of the tensors that it gives.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.bytes = {"gradients": 0, "other": 0}
        self.began = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ddp = trainer.strategy.model
        if isinstance(ddp, DistributedDataParallel):
            ddp.register_comm_hook(ddp.process_group, self.gradients)
            for name in COLLECTIVES:
                setattr(dist, name, self.counted(getattr(dist, name)))

    def gradients(self, group: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Add up a bucket of gradients over the ranks, as DDP does."""
        others = self.bytes["other"]
        self.bytes["gradients"] += size(bucket.buffer())
        sent = allreduce_hook(group, bucket)
        self.bytes["other"] = others  # the hook calls a collective that is counted
        return sent

    def counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def collective(*args: Any, **kwargs: Any) -> Any:
            self.bytes["other"] += sum(map(size, (*args, *kwargs.values())))
            return original(*args, **kwargs)

        return collective

    def on_train_batch_start(self, *_: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.began

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            adapters = sum(one.numel() for one in pl_module.parameters() if one.requires_grad)
            found = {"steps": trainer.global_step, "seconds": self.seconds, "adapters": adapters} | self.bytes
            Path(self.path).write_text(json.dumps(found))


def size(value: Any) -> int:
    """Return the bytes of a tensor or of a list of tensors; 0 for anything else."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(size, value)) if isinstance(value, list | tuple) else 0
