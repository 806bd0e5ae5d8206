"""Loads a share of a base model on each rank, and checks that all shares are of the same model."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import snapshot_download
from torch.distributed.device_mesh import DeviceMesh

from onion_lightning.model.ranks import compare_sums, file_sums, weight_sums
from onion_lightning.model.sharding.layers import check_ranks, shard_layers
from onion_lightning.model.sharding.pace import Pace
from onion_lightning.model.sharding.shares import Share
from onion_lightning.pretrained.locate import locate
from onion_lightning.process_memory import return_freed_memory
from onion_lightning.ranks import together

__all__ = ["load_shares"]

WEIGHTS = 2**22  # bytes; a smaller tensor is no gathered weight of a large model


def load_shares(module: Any, device: torch.device, precision: str, world: int, nodes: int) -> Pace:
    """Load a base model of which each rank reads, quantizes and keeps its rows of the decoder layers' weights.

    Args:
        module: an `OnionModule`.
        device: of this rank.
        precision: as for `load_base`.
        world: number of ranks.
        nodes: number of machines.

    Raises:
        OnionError: it cannot be loaded on one rank, or ranks have loaded different weights. All ranks raise it.
    """
    size, here = check_ranks(module.shard, world, nodes), world // nodes
    group, _ = dist.new_subgroups(size)
    mesh = DeviceMesh.from_group(group, device.type)
    if device.type == "cpu":
        return_freed_memory(WEIGHTS)
    if module.use_dora:
        load_in_turns(module, mesh, device, precision, here)
    else:
        with together():
            module.load_base(device, precision, Share(dist.get_rank(group), size, device))
            sums = (
                weight_sums(module)
                if size <= here
                else file_sums(folder(module.base_model), dist.get_rank() % here, here)
            )
            shard_layers(module.language_model, mesh, device)
        compare_sums(sums.to(device), module.base_model, min(size, here))
    return Pace(module.language_model, group)


def load_in_turns(module: Any, mesh: DeviceMesh, device: torch.device, precision: str, here: int) -> None:
    """Load a whole model in host memory, one rank of a machine after another: DoRA starts from the norms of whole weights."""
    for turn in range(here):
        with together():
            if dist.get_rank() % here == turn:
                module.load_base(torch.device("cpu"), precision)
                sums = weight_sums(module)
                shard_layers(module.language_model, mesh, device)
    compare_sums(sums.to(device), module.base_model)


def folder(base_model: str) -> Path:
    """Return the folder that a base model was loaded from."""
    source = locate(base_model)
    return Path(source if Path(source).is_dir() else snapshot_download(source, local_files_only=True))
