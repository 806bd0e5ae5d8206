"""Traces a training step on fake tensors, with the code that trains, and records its memory phase by phase."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from onion_lightning.data.collate import Batch
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimization.optimizer import adamw_with_cosine
from onion_lightning.planning.flops import FlopCount
from onion_lightning.planning.live_memory import LiveMemory, storage_bytes

__all__ = ["DeviceType", "StepMemory", "add_gradients", "full_batch", "trace_optimizer", "trace_step"]

DeviceType = Literal["cuda", "cpu"]


@dataclass
class StepMemory:
    """The memory of the forward and backward pass of a micro-batch, in bytes, without weights, gradients and optimizer; and
    its floating-point operations.

    Attributes:
        activations: what the decoder keeps for its backward pass.
        loss: largest addition to the activations while the loss and its gradient are computed, mostly logits.
        layers: largest addition to the activations while the decoder runs forward or backward.
        products: operations of matrix products.
        attention: operations of attention kernels.
    """

    activations: int = 0
    loss: int = 0
    layers: int = 0
    products: int = 0
    attention: int = 0


class CudaDropout(torch.nn.Dropout):
    """Dropout as on CUDA, which keeps a mask of one byte an element; the CPU keeps a mask of the input's dtype."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return input
        output: torch.Tensor = torch.native_dropout(input, self.p, True)[0]
        return output


def use_dropout_of_cuda(module: torch.nn.Module) -> None:
    """Replace the dropout layers of a module, in place."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, torch.nn.Dropout):
            module.set_submodule(name, CudaDropout(layer.p))


def full_batch(rows: int, length: int, device: torch.device | None = None) -> Batch:
    """Return a micro-batch of rows of the same length, in which every token but a row's first is supervised.

    Its tokens differ: the gradients of equal ones would be zero.
    """
    ids = torch.arange(rows * length, device=device) % 32
    predictors = torch.arange(rows * length, device=device).view(rows, length)[:, :-1].flatten()
    return Batch(
        input_ids=ids,
        row_lengths=[length] * rows,
        targets=ids[predictors + 1],
        predictors=predictors,
        supervised=len(predictors),
        tokens=len(ids),
    )


def trace_step(module: OnionModule, rows: int, length: int, dtype: torch.dtype, device_type: DeviceType) -> StepMemory:
    """Run the forward and backward pass of a micro-batch in which all rows have the same length.

    Args:
        module: on fake CPU tensors; its gradients exist, so that new ones are added to them.
        rows: in the micro-batch.
        length: of each row, in tokens.
        dtype: of autocast; float32 turns autocast off.
        device_type: whose dropout to use.
    """
    memory, count, found = LiveMemory(), FlopCount(), StepMemory()

    def after_decoder(decoder: torch.nn.Module, inputs: Any, output: Any) -> None:
        found.activations, found.layers = memory.now, memory.peak - memory.now
        memory.reset_peak()
        if output.last_hidden_state.requires_grad:  # not if only the output layer is adapted
            output.last_hidden_state.register_hook(after_loss)

    def after_loss(gradient: torch.Tensor) -> None:
        found.loss = memory.peak - found.activations
        memory.reset_peak()

    handle = module.language_model.get_decoder().register_forward_hook(after_decoder)
    if device_type == "cuda":
        use_dropout_of_cuda(module)
    batch = full_batch(rows, length)
    with memory, count:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = module.loss_sum(batch)
        loss.backward()
    handle.remove()
    if not found.loss:  # there is no gradient of the decoder
        after_loss(loss)
    found.layers = max(found.layers, memory.peak - found.activations)
    found.products, found.attention = count.products, count.attention
    return found


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give the trainable ones gradients, as earlier micro-batches do."""
    for parameter in parameters:
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def trace_optimizer(module: OnionModule, device_type: DeviceType) -> tuple[int, int]:
    """Return the size of the optimizer's state, and the largest addition to it during a step, in bytes."""
    if module.optimizer != "adamw":
        return storage_bytes(
            bitsandbytes_state(module)
        ), 0  # its step works in place, and reads values: fakes have none
    alike: dict[Any, list[tuple[str, torch.nn.Parameter]]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            # On a CPU, the step takes one tensor at a time, so one of each shape shows what all of them need.
            shape = (parameter.shape, parameter.dtype) if device_type == "cpu" else name
            alike.setdefault(shape, []).append((name, parameter))
    chosen = [some[0] for some in alike.values()]
    add_gradients(parameter for _, parameter in chosen)
    optimizer = adamw_with_cosine(chosen, module.optimization, 1)["optimizer"]
    for group in optimizer.param_groups:
        group["foreach"] = device_type == "cuda"  # the default there
    with LiveMemory() as memory:
        optimizer.step()  # creates the whole state first
    sizes = [storage_bytes(filter(torch.is_tensor, optimizer.state[one].values())) for _, one in chosen]
    state = sum(size * len(some) for size, some in zip(sizes, alike.values(), strict=True))
    return state, memory.peak - sum(sizes)


def bitsandbytes_state(module: OnionModule) -> Iterator[torch.Tensor]:
    """Yield tensors like those of the state of bitsandbytes' AdamW: in 8 bit, blocks of 256 values have a scale."""
    eight_bit = "8bit" in module.optimizer
    for parameter in module.parameters():
        count = parameter.numel() if parameter.requires_grad else 0
        if eight_bit and count >= 4096:
            yield from (torch.empty(count, dtype=torch.uint8) for _ in range(2))
            yield from (torch.empty(-(-count // 256)) for _ in range(2))
        elif count:
            yield from (torch.empty(count) for _ in range(2))
    if eight_bit:
        yield from (torch.empty(256) for _ in range(2))  # the codes, for all
