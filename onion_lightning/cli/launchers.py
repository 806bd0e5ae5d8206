"""Determines who started this process, and makes ranks start and exit together."""

import atexit
import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, Strategy

from onion_lightning.private_api import process_group_timeout

__all__ = ["die_with_parent", "join_restarted_job", "started_by_lightning", "wait_for_parent"]


def started_by_lightning() -> bool:
    """Return whether another rank on this node started this process."""
    others = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")
    return os.environ.get("LOCAL_RANK", "0") != "0" and not any(name in os.environ for name in others)


def die_with_parent(yes: bool) -> None:
    """Have the kernel end this process when its parent ends (Linux only).

    A rank whose rank 0 is gone would otherwise wait in a collective, for many minutes with NCCL.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL if yes else 0)


def wait_for_parent(seconds: float = 8.0) -> None:
    """Exit after rank 0: Lightning kills rank 0 when it sees another rank exit with a status other than 0."""
    die_with_parent(False)
    parent, began = os.getppid(), time.monotonic()
    while os.getppid() == parent and time.monotonic() - began < seconds:
        time.sleep(0.05)


def join_restarted_job(strategy: Strategy) -> None:
    """Connect the ranks of a job that torchrun has restarted; Lightning then finds them connected.

    Without `--rdzv_backend c10d`, torchrun keeps one store for all attempts, which still contains the addresses of the
    ranks of earlier attempts: new ranks may read those and fail with "connection refused" (pytorch#135712, fixed for c10d
    only). Here each attempt gets a prefix of its own. With several torchrun agents the attempts may be counted differently,
    so those are left to c10d.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1" or not isinstance(strategy, DDPStrategy):
        return
    device = strategy.root_device
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group(
        strategy.process_group_backend or dist.get_default_backend_for_device(device),
        timeout=process_group_timeout(strategy),
        store=dist.PrefixStore(f"onion_lightning/{attempt}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        device_id=device if device.type == "cuda" else None,
    )
    atexit.register(destroy_process_group)


def destroy_process_group() -> None:
    with suppress(RuntimeError):  # the other ranks may be gone
        dist.destroy_process_group()
