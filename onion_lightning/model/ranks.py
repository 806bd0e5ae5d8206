"""Frozen weights under DDP: they are read by each rank from the same files, not sent, and compared."""

import torch
import torch.distributed as dist

from onion_lightning.errors import OnionError
from onion_lightning.private_api import ignore_in_ddp

__all__ = ["compare_sums", "exclude_frozen_weights", "weight_sums"]


def exclude_frozen_weights(module: torch.nn.Module) -> None:
    """Keep DDP from broadcasting frozen weights and buffers: 7 GB to each rank for Llama-2 7B in 8 bit.

    DDP still broadcasts the adapters when it starts, and their gradients at each step.

    Args:
        module: that DDP will wrap, with its base model and adapters.
    """
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    ignore_in_ddp(module, [*frozen, *(name for name, _ in module.named_buffers())])


def compare_sums(own: torch.Tensor, base_model: str) -> None:
    """Check that all ranks have the same frozen weights, by 8 bytes for each. Does nothing in a single process.

    Args:
        own: what `weight_sums` returns, on the device of this rank.
        base_model: for the error message.

    Raises:
        OnionError: they differ. All ranks raise it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    sums = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sums, own)
    others = [str(rank) for rank, found in enumerate(sums) if not torch.equal(found, sums[0])]
    if others:
        raise OnionError(
            f"--model.base_model {base_model}: rank 0 and rank {', '.join(others)} loaded different weights; give every node"
            " the same files."
        )


def weight_sums(module: torch.nn.Module) -> torch.Tensor:
    """Return a checksum of each frozen weight, int64, (weights,): the sum of its bytes, eight at a time, modulo 2**64."""
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    return torch.stack([byte_sum(parameter.detach()) for parameter in frozen])


def byte_sum(weight: torch.Tensor) -> torch.Tensor:
    data = weight.contiguous().flatten().view(torch.uint8)
    words = len(data) // 8 * 8
    return data[:words].view(torch.int64).sum() + data[words:].sum(dtype=torch.int64)
