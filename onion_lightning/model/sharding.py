"""Frozen weights spread over ranks: each keeps a share of every layer, and gathers a layer while it computes it.

FSDP2 shards and gathers them, as they are stored: 8-bit codes are sent, never dequantized weights. The adapters stay with
DDP, so training is the same bit for bit.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.model.ranks import compare_sums, weight_sums
from onion_lightning.ranks import together

__all__ = ["Pace", "Shard", "check_ranks", "keeping_pace", "load_in_turns", "shard_layers", "without_gradients"]

Shard = bool | Literal["node", "all"]


class Pace:
    """Lets the ranks that share weights make the same number of forward passes, whatever each of them computes.

    Gathering weights takes all of them. Inside `keeping_pace`, each announces a pass before it makes it, and one that has
    finished its own work makes passes on one token until all have.

    Args:
        model: the causal language model, sharded.
        group: the ranks that share its weights.
    """

    def __init__(self, model: PreTrainedModel, group: dist.ProcessGroup) -> None:
        self.decoder = model.get_decoder()
        self.group = group
        self.device = model.device
        self.active = False

    def announce(self, works: bool) -> bool:
        """Return whether any rank makes a pass."""
        working = torch.tensor([int(works)], device=self.device)
        dist.all_reduce(working, op=dist.ReduceOp.MAX, group=self.group)
        return bool(working.item())

    def follow(self) -> None:
        """Make passes on one token until no rank makes any."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            while self.announce(False):
                self.decoder(input_ids=token, use_cache=False)


@contextlib.contextmanager
def keeping_pace(pace: Pace | None) -> Iterator[None]:
    """Make as many forward passes as the other ranks that share the weights, inside the block and at its end.

    All of them enter the block, whether they have something to compute or not. Does nothing if the weights are not sharded.
    """
    if pace is None or pace.active:
        yield
        return
    pace.active = True
    handle = pace.decoder.register_forward_pre_hook(lambda *_: pace.announce(True) and None)
    try:
        yield
    finally:
        handle.remove()
        pace.active = False
    pace.follow()


def check_ranks(shard: Shard, world: int, nodes: int) -> int:
    """Return how many ranks share the weights.

    Args:
        shard: `all` for all ranks; otherwise those of a machine, so that no weights cross the network.
        world: number of ranks.
        nodes: number of machines.

    Raises:
        OnionError: there is only one.
    """
    size = world if shard == "all" else world // nodes
    if size == 1:
        raise OnionError(
            f"--model.shard {str(shard).lower()}: there is only one rank to spread the weights over; give --trainer.devices 2"
            " or more, or omit the flag."
        )
    return size


def without_gradients(model: torch.nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return the fastest context without gradients: tensors of `inference_mode` would stay among the gathered weights."""
    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    return torch.no_grad() if sharded else torch.inference_mode()


def shard_layers(model: PreTrainedModel, mesh: DeviceMesh, device: torch.device) -> None:
    """Shard the frozen weights of the decoder layers, in place. Adapters, embeddings and output layer stay whole.

    Args:
        model: with adapters, in host memory; all ranks have the same weights. It is moved to the device.
        mesh: the ranks, in one dimension.
        device: of this rank.
    """
    layers: Any = model.get_decoder().layers
    for layer in layers:
        trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)
    model.to(device)


def load_in_turns(module: Any, device: torch.device, precision: str, world: int, nodes: int) -> Pace:
    """Load a base model in host memory, one rank of a machine after another, and keep a share of it on the device.

    Args:
        module: an `OnionModule`.
        device: of this rank.
        precision: as for `load_base`.
        world: number of ranks.
        nodes: number of machines.

    Raises:
        OnionError: it cannot be loaded on one rank, or ranks have loaded different weights. All ranks raise it.
    """
    group, _ = dist.new_subgroups(check_ranks(module.shard, world, nodes))
    mesh, here = DeviceMesh.from_group(group, device.type), world // nodes
    for turn in range(here):
        with together():
            if dist.get_rank() % here == turn:
                module.load_base(torch.device("cpu"), precision)
                sums = weight_sums(module)
                shard_layers(module.language_model, mesh, device)
    compare_sums(sums.to(device), module.base_model)
    return Pace(module.language_model, group)
