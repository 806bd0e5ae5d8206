"""Frozen weights under DDP: they are read by each rank from the same files, not sent, and compared."""

from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import Strategy
from torch.distributed.tensor import DTensor

from onion_lightning.errors import OnionError
from onion_lightning.private_api import ignore_in_ddp, starts_ranks_midway

__all__ = ["check_launcher", "compare_sums", "exclude_frozen_weights", "file_sums", "weight_sums"]


def check_launcher(strategy: Strategy) -> None:
    """Refuse the strategies for notebooks: their ranks end with `fit`, and the caller's module has no adapters to receive.

    Raises:
        OnionError: ranks are forked or spawned from the running program.
    """
    if starts_ranks_midway(strategy):
        raise OnionError(
            "Trainer(strategy=...): strategies that fork or spawn ranks (ddp_notebook, ddp_fork, ddp_spawn) would lose the"
            " adapters; in a notebook, run !onion-lightning fit --trainer.strategy ddp in a cell, or give Trainer(devices=1)."
        )


def exclude_frozen_weights(module: torch.nn.Module) -> None:
    """Keep DDP from broadcasting frozen weights and buffers: 7 GB to each rank for Llama-2 7B in 8 bit.

    DDP still broadcasts the adapters when it starts, and their gradients at each step.

    Args:
        module: that DDP will wrap, with its base model and adapters.
    """
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    ignore_in_ddp(module, [*frozen, *(name for name, _ in module.named_buffers())])


def compare_sums(own: torch.Tensor, base_model: str, shares: int = 1) -> None:
    """Check that all ranks have the same frozen weights, by 8 bytes for each. Does nothing in a single process.

    Args:
        own: what `weight_sums` or `file_sums` returns, on the device of this rank.
        base_model: for the error message.
        shares: rank r is compared with rank r + shares, because the ranks between them have other parts.

    Raises:
        OnionError: they differ. All ranks raise it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    sums = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sums, own)
    differ = [rank for rank, found in enumerate(sums) if not torch.equal(found, sums[rank % shares])]
    if differ:
        others = ", ".join(str(rank) for rank in differ if rank % shares == differ[0] % shares)
        raise OnionError(
            f"--model.base_model {base_model}: rank {differ[0] % shares} and rank {others} loaded different weights; give"
            " every node the same files."
        )


def weight_sums(module: torch.nn.Module) -> torch.Tensor:
    """Return a checksum of each frozen weight, int64, (weights,): the sum of its bytes, eight at a time, modulo 2**64.

    Of a sharded weight, it is that of this rank's rows.
    """
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    return torch.stack([byte_sum(parameter.detach()) for parameter in frozen])


def byte_sum(weight: torch.Tensor) -> torch.Tensor:
    own = weight.to_local() if isinstance(weight, DTensor) else weight
    data = own.contiguous().flatten().view(torch.uint8)
    words = len(data) // 8 * 8
    return data[:words].view(torch.int64).sum() + data[words:].sum(dtype=torch.int64)


def file_sums(folder: Path, part: int, parts: int) -> torch.Tensor:
    """Return a checksum of a part of each safetensors file, int64, (files,), as `weight_sums` does.

    Args:
        folder: of the base model.
        part: which part is read, from 0.
        parts: number of parts.
    """
    sums = []
    for file in sorted(folder.glob("*.safetensors")):
        words = torch.from_file(str(file), size=file.stat().st_size // 8, dtype=torch.int64)  # mapped, not read at once
        sums.append(words.tensor_split(parts)[part].sum() + file.stat().st_size)
    return torch.stack(sums)
