"""Prints what a run trains on: device, precision, attention kernel, expected and available memory."""

import os
from typing import Any, cast

import lightning.pytorch as pl
import torch
from transformers import PretrainedConfig

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import NoSuchLayersError, OnionError
from onion_lightning.messages import is_rank_zero, tell
from onion_lightning.model.base_model import avoid_cudnn_attention, compute_dtype
from onion_lightning.model.module import OnionModule
from onion_lightning.model.sharding.layers import Shard, check_ranks
from onion_lightning.planning.memory import MemoryPlan, SharedLayers, flags_of
from onion_lightning.planning.out_of_memory import remedies, wider_shard
from onion_lightning.planning.remembered import recall_memory
from onion_lightning.pretrained.locate import load_config
from onion_lightning.private_api import attention_kernel

__all__ = [
    "WEIGHTS",
    "StartLine",
    "available_memory",
    "describe_device",
    "describe_memory",
    "more_shards",
    "plan_memory",
]

WEIGHTS = {"int8": "8-bit", "nf4": "4-bit", "none": "unquantized"}


class StartLine(pl.Callback):
    """Prints one line when `fit` starts, before the base model is loaded, one about weights that ranks share, and what to
    change if memory may not suffice.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not is_rank_zero():
            return
        module, data = cast(OnionModule, pl_module), cast(OnionDataModule, cast(Any, trainer).datamodule)
        device, precision = trainer.strategy.root_device, str(trainer.precision)
        config = load_config(module.base_model)
        rows = len(data.roles) * min(data.batch_size, -(-data.global_batch_size // trainer.world_size))
        length = int(data.column("train", "length").max())
        plan, available = plan_memory(trainer, module, rows, length), available_memory(device)
        kernel = kernel_name(config, device, compute_dtype(precision))
        where = f"{describe_device(device, trainer.world_size)} in {precision}"
        what = f"{WEIGHTS[module.load_in]} weights and {kernel} attention"
        memory = f"{describe_memory(plan, available)}, for {rows} rows of {length} tokens"
        tell(f"Training on {where}, with {what}. Expected memory: {memory}.")
        if plan is not None and plan.shared is not None:
            tell(describe_shares(plan.shared, trainer.accumulate_grad_batches))
        if plan is not None and available is not None and not plan.fits(available):
            shard = more_shards(trainer, module, plan)
            tell(f"This may be too little: give {next(remedies('fit', vars(module), vars(data), shard))}.")


def more_shards(trainer: pl.Trainer, module: OnionModule, plan: MemoryPlan | None) -> Shard:
    """Return the value of --model.shard with which more ranks share the weights, if these take most of the memory."""
    if plan is None or 2 * plan.linear <= plan.total:
        return False
    return wider_shard(module.shard, trainer.world_size, trainer.num_nodes)


def describe_shares(shared: SharedLayers, accumulate: int) -> str:
    """Return in words what each rank keeps, and what it receives in an optimizer step."""
    share, received = gigabytes(shared.share), gigabytes(accumulate * shared.received)
    return f"{shared.ranks} ranks share the decoder layers: each keeps {share} GB, and receives {received} GB per step."


def plan_memory(trainer: pl.Trainer, module: OnionModule, rows: int, length: int) -> MemoryPlan | None:
    """Return the predicted memory of one rank; None for a model whose training step cannot be traced.

    Raises:
        NoSuchLayersError: the model has none of the layers to adapt.
    """
    try:
        return recall_memory(
            load_config(module.base_model),
            **flags_of(module),
            precision=str(trainer.precision),
            rows=rows,
            length=length,
            ranks=trainer.world_size,
            shares=check_ranks(module.shard, trainer.world_size, trainer.num_nodes) if module.shard else 1,
            device_type="cuda" if trainer.strategy.root_device.type == "cuda" else "cpu",
        )
    except NoSuchLayersError:
        raise  # before the weights are loaded
    except OnionError:
        return None


def describe_device(device: torch.device, ranks: int) -> str:
    """Return the device of each rank in words, such as "8 x NVIDIA L4" or "the CPU (2 threads)"."""
    threads = torch.get_num_threads()
    cpu = f"the CPU ({threads} thread{'s' * (threads > 1)})"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return name if ranks == 1 else f"{ranks} x {name}"


def describe_memory(plan: MemoryPlan | None, available: int | None) -> str:
    """Return expected and available memory in words."""
    expected = "unknown" if plan is None else gigabytes(plan.total)
    return f"{expected} of {gigabytes(available)} GB" if available is not None else f"{expected} GB"


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}" if count >= 1e9 else f"{count / 1e9:.2f}"


def available_memory(device: torch.device) -> int | None:
    """Return the free memory of a GPU, or this machine's memory, in bytes; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def kernel_name(config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the kernel that torch chooses for causal attention with the model's heads, once it is loaded."""
    avoid_cudnn_attention()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    query = torch.zeros(1, heads, 16, size, device=device, dtype=dtype, requires_grad=True)
    key = torch.zeros(1, groups, 16, size, device=device, dtype=dtype, requires_grad=True)
    return attention_kernel(query, key)
