"""Counts the bytes of the tensors that are alive while operations run, on real tensors and on fake ones."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from onion_lightning.private_api import TorchDispatchMode

__all__ = ["LiveMemory", "storage_bytes"]


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the size of tensors in memory; a storage that several tensors share counts once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({id(storage): storage.nbytes() for storage in storages}.values())


class LiveMemory(TorchDispatchMode):
    """Counts the storages that operations create inside this context, from their creation until they are freed.

    Tensors that existed before are not counted, nor is what most kernels allocate for themselves (`scratch_bytes`). torch's
    `torch.distributed._tools.mem_tracker.MemTracker` does this by category, but it registers a hook on every parameter,
    which fails on frozen ones (torch 2.13).

    Attributes:
        now: bytes alive.
        peak: largest value of `now` since the start or the last `reset_peak`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, int] = {}  # bytes of each storage, by its identity

    def reset_peak(self) -> None:
        """Measure the peak from here on."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.peak = max(self.peak, self.now + scratch_bytes(func, args))
        output = func(*args, **(kwargs or {}))
        for storage in storages_in(output):
            if id(storage) not in self.alive and not any(storage is known for known in storages_in(args)):
                self.add(storage)
        return output

    def add(self, storage: torch.UntypedStorage) -> None:
        self.alive[id(storage)] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.remove, id(storage))

    def remove(self, key: int) -> None:
        self.now -= self.alive.pop(key)


def scratch_bytes(func: Any, args: Any) -> int:
    """Return the size of the large temporary tensors that an operation creates inside its kernel, where they cannot be seen.

    `logsumexp` subtracts the maxima into a tensor of the size of its input.
    """
    return int(args[0].nbytes) if func is torch.ops.aten.logsumexp.default else 0


def storages_in(value: Any) -> Iterator[torch.UntypedStorage]:
    """Yield the storages of the tensors in the arguments or the result of an operation."""
    if isinstance(value, torch.Tensor):
        yield value.untyped_storage()
    elif isinstance(value, tuple | list):
        for one in value:
            yield from storages_in(one)
