"""Lets the ranks of a job decide together: values of all ranks, errors of any rank, and what is said when a rank is lost."""

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from onion_lightning.errors import OnionError, shorten

__all__ = [
    "agree",
    "connected",
    "explain_lost_rank",
    "gather",
    "on_rank_zero",
    "place",
    "share",
    "together",
]

T = TypeVar("T")

# How gloo and NCCL report that a rank is gone, or that it did not answer in time.
CLOSED = re.compile(
    r"Connection closed by peer|Connection reset|Broken pipe|Connection refused|remote process exited|ncclRemoteError"
    r"|failed to recv, got 0 bytes|Socket closed|No route to host"
)
LATE = re.compile(
    r"Timed out waiting|timed out after|wait timeout|Watchdog caught collective operation timeout|timed out"
)
ADDRESS = re.compile(r"\[?([0-9a-fA-F.:]+?)\]?:\d+\b")


def connected() -> bool:
    """Return whether this process is one of several ranks that can communicate."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def place() -> str:
    """Return this rank and its machine in words."""
    rank = dist.get_rank() if connected() else int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    return f"rank {rank} on {socket.gethostname()}"


def gather(value: T) -> list[T]:
    """Return the value of every rank, by rank; of this process alone if there are no others."""
    if not connected():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def share(value: T, source: int = 0) -> T:
    """Return the value of one rank, by default that of rank 0."""
    if not connected():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=source)
    return values[0]


def agree(own: Mapping[str, str], remedy: str) -> None:
    """Compare this rank's values with those of all others: one gather of a few kilobytes.

    Args:
        own: what a run depends on, by flag or name.
        remedy: what to do if they differ.

    Raises:
        OnionError: two ranks differ. All ranks raise it.
    """
    (first, expected), *others = gather((place(), dict(own)))
    for other, found in others:
        differ = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        if differ:
            name, more = differ[0], f" ({len(differ) - 1} more differ)" if len(differ) > 1 else ""
            raise OnionError(
                f"{name}: is {expected.get(name)} for {first}, but {found.get(name)} for {other}{more}; {remedy}."
            )


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run a block on every rank. If it fails on one, all of them raise, instead of waiting for that one in vain.

    The block itself must not communicate: ranks that fail skip the rest of it.

    Raises:
        OnionError: on the ranks where the block succeeded: the first error of another, with its rank and machine.
    """
    failure = None
    try:
        yield
    except Exception as error:
        if not connected():
            raise
        failure = error
    errors = gather(None if failure is None else f"{place()}: {sentence_of(failure)}")
    if failure is not None:
        raise failure
    first = next(filter(None, errors), None)
    if first is not None:
        raise OnionError(first)


def sentence_of(error: Exception) -> str:
    return str(error) if isinstance(error, OnionError) else f"{type(error).__name__}: {shorten(error)}"


def on_rank_zero(decide: Callable[[], T]) -> T:
    """Call a function on rank 0 alone, and return its result on every rank.

    Raises:
        OnionError: it raised this on rank 0. All ranks raise it.
    """
    found: tuple[Any, str | None] = (None, None)
    failure: OnionError | None = None
    if not connected() or dist.get_rank() == 0:
        try:
            found = decide(), None
        except OnionError as error:
            failure, found = error, (None, str(error))
    value, message = share(found)
    if failure is not None:
        raise failure
    if message is not None:
        raise OnionError(message)
    return value


def explain_lost_rank(error: BaseException, hosts: dict[str, str]) -> str | None:
    """Return what an error of a collective says about the other ranks, in words; None if it is another error.

    Args:
        error: the error.
        hosts: names of the machines by their addresses.
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or not (CLOSED.search(text) or LATE.search(text)):
        return None
    found = next((hosts[address] for address in ADDRESS.findall(text) if address in hosts), None)
    peer = f"a rank on {found}" if found else "another rank"
    if CLOSED.search(text):
        return f"the connection to {peer} was closed: its process has ended"
    return f"{peer} did not answer within the time limit: its machine or the network is down, or it is stuck"
