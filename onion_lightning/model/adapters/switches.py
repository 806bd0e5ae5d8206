"""Turns adapters off, scales them, and merges them into the weights for a while."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor

from onion_lightning.errors import OnionError

if TYPE_CHECKING:  # see insertion.py
    from peft import PeftModel

__all__ = ["adapters_enabled", "merged_adapters", "scaled_adapters"]


def adapters_enabled(model: "PeftModel | None", enabled: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a loaded model has its adapters, or is the base model."""
    assert model is not None
    return contextlib.nullcontext() if enabled else model.disable_adapter()


@contextlib.contextmanager
def scaled_adapters(model: torch.nn.Module, strength: float) -> Iterator[None]:
    """Multiply the output of every LoRA adapter in a model by a factor, inside the block.

    Args:
        model: may have no adapters.
        strength: 0 is the base model, 1 changes nothing.

    Raises:
        OnionError: adapters of DoRA, which change the norm of the weights, would be scaled.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)] if strength != 1 else []
    if any(any(layer.use_dora.values()) for layer in layers):
        raise OnionError(
            f"--model.adapter_strength {strength}: adapters of --model.use_dora change the norm of the weights and cannot be"
            " scaled; omit the flag."
        )
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scaling.update({name: value * strength for name, value in layer.scaling.items()})
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


@contextlib.contextmanager
def merged_adapters(model: torch.nn.Module) -> Iterator[None]:
    """Add the adapters to the weights that they adapt, inside the block, and restore the weights exactly.

    A merged adapter takes no time. Quantized weights cannot be merged into, nor can weights that are sharded, because not all
    ranks generate at the same time: their adapters stay as they are.

    Args:
        model: may have no adapters. In 16 bit, merged weights are rounded once more.
    """
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if isinstance(module, Linear) and can_merge(module)]
    weights = [layer.get_base_layer().weight for layer in layers]
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.merge()
        yield
    finally:
        with torch.no_grad():
            for layer, weight, value in zip(layers, weights, before, strict=True):
                layer.unmerge()
                weight.copy_(value)


def can_merge(layer: Any) -> bool:
    weight = layer.get_base_layer().weight
    return (
        weight.is_floating_point()
        and not isinstance(weight, DTensor)
        and not layer.disable_adapters
        and not layer.merged
    )
