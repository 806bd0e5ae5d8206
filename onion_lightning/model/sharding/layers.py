"""Shards the decoder layers of a model with FSDP2.

Weights are gathered as they are stored: 8-bit codes are sent, never dequantized weights. The adapters stay with DDP, so
training is the same bit for bit.
"""

import contextlib
import itertools
from typing import Any, Literal

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError
from onion_lightning.private_api import gather_in_background

__all__ = ["Shard", "check_ranks", "own_rows", "shard_layers", "without_gradients"]

Shard = bool | Literal["node", "all"]


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


def own_rows(tensor: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    """Return the rows of a tensor that a rank keeps: at most `rows / size`, rounded up, as FSDP2 does; no copy."""
    step = -(-len(tensor) // size)
    return tensor[rank * step : (rank + 1) * step]


def without_gradients(model: torch.nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return the fastest context without gradients: tensors of `inference_mode` would stay among the gathered weights."""
    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    return torch.no_grad() if sharded else torch.inference_mode()


def shard_layers(model: PreTrainedModel, mesh: DeviceMesh, device: torch.device) -> None:
    """Shard the frozen weights of the decoder layers, in place. Adapters, embeddings and output layer stay whole.

    Args:
        model: with adapters, moved to the device. Weights of its decoder layers are whole, or already the rows of this rank.
        mesh: the ranks, in one dimension.
        device: of this rank.
    """
    decoder: Any = model.get_decoder()
    layers = decoder.layers
    for layer in layers:
        shard_layer(layer, mesh, device)
    fully_shard(decoder, mesh=mesh, ignored_params=set(decoder.parameters()))  # the layers know one another through it
    for layer, following in itertools.pairwise(layers):
        layer.set_modules_to_forward_prefetch([following])  # in a backward pass, FSDP2 does this by itself
    if device.type == "cpu":
        gather_in_background(layers)
    model.to(device)


def shard_layer(layer: torch.nn.Module, mesh: DeviceMesh, device: torch.device) -> None:
    """Shard a layer without its weights, and then put the rows of this rank in their places."""
    rows = {}
    for module in layer.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if not weight.requires_grad:
                whole = torch.Size((whole_length(module, name), *weight.shape[1:]))
                is_whole = weight.shape == whole
                own = own_rows(weight.data, mesh.get_local_rank(), mesh.size()) if is_whole else weight.data
                rows[module, name] = own.to(device, copy=is_whole)
                setattr(module, name, frozen(torch.empty(whole, dtype=weight.dtype, device="meta")))
    trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
    fully_shard(layer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)
    for (module, name), own in rows.items():
        empty: Any = getattr(module, name)
        place = {"shape": empty.shape, "stride": empty.stride(), "run_check": False}
        setattr(module, name, frozen(DTensor.from_local(own, mesh, empty.placements, **place)))


def whole_length(module: torch.nn.Module, name: str) -> int:
    """Return the number of rows of a weight on all ranks together."""
    from onion_lightning.model.frozen_linear import FrozenLinear  # late: `--help` imports this module

    lengths = module.lengths() if isinstance(module, FrozenLinear) else {}
    if isinstance(module, torch.nn.Linear) and name == "weight":
        lengths = {"weight": module.out_features, **lengths}
    return lengths.get(name, len(getattr(module, name)))


def frozen(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)
