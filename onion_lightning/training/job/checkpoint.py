"""Decides which checkpoint a run resumes from: all ranks load the newest one that any machine has."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from onion_lightning.errors import OnionError
from onion_lightning.messages import is_first_of_machine, tell
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.output_folder import writing
from onion_lightning.pretrained.adapter_folder import is_adapter_folder
from onion_lightning.ranks import connected, gather, place, share, together
from onion_lightning.training.checkpoint_io import checkpoint_digest, is_valid, read_checkpoint, resolve
from onion_lightning.training.job.slurm import job_id, was_requeued

__all__ = ["choose_checkpoint"]

CHUNK = 64 * 2**20  # bytes that are sent at a time


class Found(NamedTuple):
    """A checkpoint on one machine.

    Attributes:
        place: rank and machine.
        step: optimizer steps; 0 for a folder of adapters.
        run: identity of the run that wrote it; None if it is not known.
        digest: of its content.
        size: in bytes; None for a folder, which is not sent.
    """

    place: str
    step: int
    run: str | None
    digest: str
    size: int | None


def choose_checkpoint(asked: str | None, folder: Path, trains: bool) -> str | None:
    """Return the value of `--ckpt_path` that all ranks use, after copying the file to machines that lack it.

    Args:
        asked: the value that was given. Without one, a requeued job of SLURM resumes from the last.ckpt that it wrote itself.
        folder: the run's folder, where `last` and `best` are.
        trains: whether the command is `fit`.

    Raises:
        OnionError: machines have checkpoints of different runs, or one cannot write the file. All ranks raise it.
    """
    requeued = asked is None and trains and was_requeued()
    if asked is None and not requeued:
        return None
    path = resolve(asked or "last", folder)
    if asked is not None and not connected():
        return asked
    with together():
        own = describe(path, job_id() if requeued else None)
    copies = gather(own)
    found = [one for one in copies if one is not None]
    if not found:
        return asked
    newest = max(found, key=lambda one: one.step)  # of equal ones, that of the lowest rank
    check_same_run(asked or "last", found)
    if any(one is None or one.digest != newest.digest for one in copies):
        check_sendable(asked or "last", path, newest, copies)
        receive(path, copies.index(newest), newest, own)
        tell(f"--ckpt_path {asked or 'last'}: using step {newest.step} of {path} from {newest.place}.")
    if requeued:
        tell(f"This job was requeued: resuming from step {newest.step} of {path}.")
    return asked or "last"


def describe(path: Path, job: str | None) -> Found | None:
    """Describe a checkpoint on this machine; None if there is none, or if it is damaged.

    Args:
        path: the file, or a folder of adapters.
        job: the job that must have written it; None for any.
    """
    if is_adapter_folder(path):
        return Found(place(), 0, None, checkpoint_digest(path), None)
    if not path.is_file() or not is_valid(path):
        return None
    checkpoint = read_checkpoint(path)
    run = checkpoint[CHECKPOINT_KEY].get("run") or {"id": None, "job": None}
    if job is not None and run["job"] != job:
        return None
    step = int(checkpoint.get("global_step", 0))
    return Found(place(), step, run["id"], checkpoint_digest(path), path.stat().st_size)


def check_same_run(asked: str, found: list[Found]) -> None:
    first = found[0]
    for other in found[1:]:
        if other.run != first.run:
            raise OnionError(
                f"--ckpt_path {asked}: {first.place} and {other.place} have checkpoints of different runs (steps {first.step}"
                f" and {other.step}); remove one of them, or give another --checkpoint.dirpath."
            )


def check_sendable(asked: str, path: Path, newest: Found, copies: list[Found | None]) -> None:
    """Refuse to send a folder, or to replace a file that a run does not replace by itself."""
    other = next(f"rank {rank}" for rank, one in enumerate(copies) if one is None or one.digest != newest.digest)
    if newest.size is None:
        raise OnionError(f"--ckpt_path {asked}: the folder of {newest.place} is not that of {other}; copy it there.")
    if path.name != "last.ckpt" and any(one is not None and one.digest != newest.digest for one in copies):
        raise OnionError(f"--ckpt_path {asked}: the file of {newest.place} is not that of {other}; copy it there.")


def receive(path: Path, source: int, newest: Found, own: Found | None) -> None:
    """Send a checkpoint from the rank that has it; the first rank of each machine that lacks it writes it.

    Args:
        path: of the file, on all machines.
        source: the rank that has it.
        newest: its description.
        own: what this rank has.
    """
    assert newest.size is not None
    writes = is_first_of_machine() and (own is None or own.digest != newest.digest)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    failure: OnionError | None = None
    with path.open("rb") if dist.get_rank() == source else open(os.devnull, "rb") as stream:
        for _ in range(0, newest.size, CHUNK):
            piece = share(stream.read(CHUNK), source)
            try:
                if writes and failure is None:
                    append(path, part, piece)
            except OnionError as error:  # the other ranks are still receiving
                failure = error
    with together():
        if failure is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise failure
        if writes:
            part.replace(path)


def append(path: Path, part: Path, piece: bytes) -> None:
    with writing("--ckpt_path", path, "make it writable, or copy the checkpoint there"):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as stream:
            stream.write(piece)
