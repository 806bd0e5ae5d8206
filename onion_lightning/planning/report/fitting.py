"""Finds flags with which a run fits into a device's memory. Each is predicted, not guessed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from onion_lightning.model.base_model import LoadIn
from onion_lightning.model.sharding.layers import Shard
from onion_lightning.planning.memory import MemoryPlan

__all__ = ["Predict", "Remedy", "Setup", "batch_sizes", "find_remedies", "largest"]

SHORTER = (0.75, 0.5, 0.25)  # of the longest row, for --data.max_length
SHORTEST = 32  # tokens
MOST = 4  # remedies
FEWER_BITS: dict[LoadIn, tuple[LoadIn, ...]] = {"none": ("int8", "nf4"), "int8": ("nf4",), "nf4": ()}
PRICES = {
    "batch_size": "the same optimizer steps, in more micro-batches",
    "checkpointing": "about a third more time per step",
    "shard": "each layer's weights are gathered twice a micro-batch",
    "load_in": "weights are rounded more coarsely",
    "length": "longer articles are cut",
}
FLAGS = {
    "batch_size": "--data.batch_size",
    "checkpointing": "--model.gradient_checkpointing",
    "shard": "--model.shard",
    "load_in": "--model.load_in",
    "length": "--data.max_length",
}


@dataclass(frozen=True)
class Setup:
    """The flags that can make a run fit, cheapest first.

    Attributes:
        batch_size: rows in a micro-batch.
        checkpointing: as --model.gradient_checkpointing.
        load_in: as --model.load_in.
        length: tokens of the longest row.
        shard: as --model.shard.
        shard_more: the value with which more ranks share the weights; False if there is none.
    """

    batch_size: int
    checkpointing: bool
    load_in: LoadIn
    length: int
    shard: Shard = False
    shard_more: Shard = False


Candidate = TypeVar("Candidate")
Predict = Callable[[Setup], MemoryPlan]


@dataclass(frozen=True)
class Remedy:
    """Flags with which a run fits, the predicted peak in bytes, and what they cost."""

    flags: dict[str, Any]
    peak: int
    price: str

    def words(self) -> list[str]:
        """Return the flags as they are typed."""
        return [f"{name} {str(value).lower()}" for name, value in self.flags.items()]


def batch_sizes(global_batch_size: int, ranks: int) -> list[int]:
    """Return each --data.batch_size that divides a rank's rows of a global batch, in increasing order."""
    rows = -(-global_batch_size // ranks)
    return [size for size in range(1, rows + 1) if rows % size == 0]


def largest(candidates: Sequence[Candidate], fits: Callable[[Candidate], bool]) -> Candidate | None:
    """Return the last of some candidates that fits, None if none does. They must be in the order of their memory."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(candidates[middle]) else (low, middle)
    return candidates[low - 1] if low else None


def find_remedies(setup: Setup, sizes: Sequence[int], predict: Predict, usable: int) -> list[Remedy]:
    """Return sets of flags with which a run fits, cheapest first. No set contains another.

    Args:
        setup: the flags as they are, with which it does not fit.
        sizes: of micro-batches, increasing, see `batch_sizes`.
        predict: the memory of a setup.
        usable: bytes that the peak may have.
    """

    def fits(one: Setup) -> bool:
        return predict(one).total <= usable

    smaller = [size for size in sizes if size < setup.batch_size]
    shorter = [length for share in reversed(SHORTER) if (length := round_length(share * setup.length)) < setup.length]
    found: list[Remedy] = []
    for names in changes(setup, smaller, shorter):
        if any(set(names) >= {key_of(flag) for flag in remedy.flags} for remedy in found):
            continue
        best = cheapest(setup, names, smaller, shorter, fits)
        if best is not None:
            found.append(describe(setup, best, predict(best).total))
        if len(found) == MOST:
            break
    return found


def changes(setup: Setup, smaller: Sequence[int], shorter: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Yield sets of flags to change, cheapest first: a flag costs more than all cheaper ones together."""
    possible = {
        "batch_size": bool(smaller),
        "checkpointing": not setup.checkpointing,
        "shard": bool(setup.shard_more),
        "load_in": bool(FEWER_BITS[setup.load_in]),
        "length": bool(shorter),
    }
    names = [name for name, yes in possible.items() if yes]
    for chosen in product((False, True), repeat=len(names)):
        if any(chosen):
            yield tuple(name for name, yes in zip(names, reversed(chosen), strict=True) if yes)


def cheapest(
    setup: Setup, names: Sequence[str], smaller: Sequence[int], shorter: Sequence[int], fits: Callable[[Setup], bool]
) -> Setup | None:
    """Return the setup with the smallest changes of some flags that fits; None if none does."""
    one = replace(setup, checkpointing=setup.checkpointing or "checkpointing" in names)
    if "shard" in names:
        one = replace(one, shard=setup.shard_more)
    if "batch_size" in names:
        one = replace(one, batch_size=smaller[0])
    if "length" in names:
        one = replace(one, length=shorter[0])
    formats = FEWER_BITS[setup.load_in] if "load_in" in names else (setup.load_in,)
    load_in = next((bits for bits in formats if fits(replace(one, load_in=bits))), None)
    if load_in is None:
        return None
    one = replace(one, load_in=load_in)
    if "length" in names:
        one = replace(one, length=largest(shorter, lambda length: fits(replace(one, length=length))) or shorter[0])
    if "batch_size" in names:
        one = replace(one, batch_size=largest(smaller, lambda size: fits(replace(one, batch_size=size))) or smaller[0])
    return one


def round_length(tokens: float) -> int:
    """Return a round number of tokens, at most as many."""
    step = 64 if tokens >= 128 else 8
    return max(SHORTEST, int(tokens // step * step))


def describe(setup: Setup, one: Setup, peak: int) -> Remedy:
    changed = [name for name in FLAGS if getattr(one, name) != getattr(setup, name)]
    flags = {FLAGS[name]: getattr(one, name) for name in changed}
    return Remedy(flags, peak, "; ".join(PRICES[name] for name in changed))


def key_of(flag: str) -> str:
    return next(name for name, written in FLAGS.items() if written == flag)
