"""Turns adapters off, scales or exchanges them, and merges them into the weights for a while."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor

from onion_lightning.errors import OnionError

if TYPE_CHECKING:  # see insertion.py
    from peft import PeftModel

__all__ = ["adapters_enabled", "merged_adapters", "other_adapters", "scaled_adapters"]


def adapters_enabled(model: "PeftModel | None", enabled: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a loaded model has its adapters, or is the base model."""
    assert model is not None
    return contextlib.nullcontext() if enabled else model.disable_adapter()


@contextlib.contextmanager
def other_adapters(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Compute with other weights in the adapters, inside the block. Nothing is copied.

    Args:
        module: an `OnionModule`, with its adapters enabled.
        weights: of all its adapters, by the names of its parameters, on its device.
    """
    adapters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    own = {name: adapter.data for name, adapter in adapters.items()}
    try:
        for name, adapter in adapters.items():
            adapter.data = weights[name]
        yield
    finally:
        for name, adapter in adapters.items():
            adapter.data = own[name]


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

    A merged adapter takes no time. Quantized weights cannot be merged into. A sharded layer is merged in each pass, while its
    weights are gathered: this takes time, and gives the same articles.

    Args:
        model: may have no adapters. In 16 bit, merged weights are rounded once more.
    """
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if isinstance(module, Linear) and can_merge(module)]
    with contextlib.ExitStack() as stack:
        for layer in layers:
            if isinstance(layer.get_base_layer().weight, DTensor):
                stack.enter_context(merged_in_each_pass(layer))
            else:
                stack.callback(merge(layer))
        yield


def can_merge(layer: Any) -> bool:
    return layer.get_base_layer().weight.is_floating_point() and not layer.disable_adapters and not layer.merged


@torch.no_grad()
def merge(layer: Any) -> Callable[[], None]:
    """Merge the adapters of a layer into its weight, and return a function that restores the weight."""
    weight = layer.get_base_layer().weight
    data, before = weight.data, weight.detach().clone()
    with torch.autocast(weight.device.type, enabled=False):
        layer.merge()

    @torch.no_grad()
    def restore() -> None:
        layer.unmerge()
        weight.data = data  # DoRA has put another tensor in its place
        data.copy_(before)

    return restore


@contextlib.contextmanager
def merged_in_each_pass(layer: Any) -> Iterator[None]:
    restore: list[Callable[[], None]] = []
    before = layer.register_forward_pre_hook(lambda *_: restore.append(merge(layer)))
    after = layer.register_forward_hook(lambda *_: restore.pop()(), always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
