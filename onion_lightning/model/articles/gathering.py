"""Sends the batches that other machines have written to rank 0's machine, through the process group."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch.distributed as dist

from onion_lightning.model.articles.parts import read_batches
from onion_lightning.ranks import gather

__all__ = ["gather_batches"]

Together = Callable[[], AbstractContextManager[None]]
CHUNK = 4 * 2**20  # bytes sent at a time; a larger batch is sent alone


def gather_batches(parts: Sequence[Path], own: Path, together: Together) -> None:
    """Append the batches that are in no part file on rank 0's machine to rank 0's own.

    Every rank calls this. All part files are kept: if the run is interrupted here, it can be resumed.

    Args:
        parts: the part files on this machine for its first rank, none for its other ranks.
        own: this rank's part file.
        together: a context in which an error of one rank becomes an error of all.

    Raises:
        OnionError: a file cannot be read or written on one of the machines. All ranks raise it.
    """
    gather(None)  # until all ranks have written
    with together():
        here = {batch.number for part in parts for batch in read_batches(part)}
    known: set[int] = set()
    for rank, there in enumerate(gather(here)):
        if rank and there - known:
            send_to_rank_zero(rank, chunks(parts, there - known), own, together)
        known |= there


def send_to_rank_zero(sender: int, blocks: Iterator[bytes], own: Path, together: Together) -> None:
    """Append what one rank reads to rank 0's part file.

    Objects are broadcast because that works on gloo and on NCCL alike, and never leaves a rank waiting for long.
    """
    block = b""
    while True:
        with together():
            if dist.get_rank() == 0:
                append(own, block)
            if dist.get_rank() == sender:
                block = next(blocks, b"")
        sent = [block]
        dist.broadcast_object_list(sent, src=sender)
        [block] = sent
        if not block:
            return


def append(part: Path, block: bytes) -> None:
    with part.open("ab") as stream:
        stream.write(block)


def chunks(parts: Sequence[Path], wanted: set[int]) -> Iterator[bytes]:
    """Yield the wanted batches of part files, as many at a time as fit into a chunk."""
    chunk = bytearray()
    for part in parts:
        for batch in read_batches(part):
            if batch.number not in wanted:
                continue
            size = batch.end - batch.start
            if chunk and len(chunk) + size > CHUNK:
                yield bytes(chunk)
                chunk.clear()
            chunk += b"".join(batch.lines)
    if chunk:
        yield bytes(chunk)
