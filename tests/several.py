"""Runs a function on several connected ranks, each a process of its own, and returns what each of them returned."""

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from onion_lightning.private_api import TorchDispatchMode
from tests.warm import IMPORTED


class GatherCount(TorchDispatchMode):
    """Adds up the bytes that this rank receives in all-gathers, inside the context; `times` is their number."""

    def __init__(self) -> None:
        super().__init__()
        self.received = self.times = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.c10d._allgather_base_.default:
            self.received += args[0].nbytes - args[1].nbytes  # of all ranks, and its own
            self.times += 1
        return func(*args, **(kwargs or {}))


def work(
    rank: int,
    environment: dict[str, str],
    folder: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    world: int,
) -> None:
    os.environ.clear()  # the server may have been started in another test
    os.environ |= environment
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    found = function(rank, *arguments)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def on_ranks(function: Callable[..., Any], *arguments: Any, world: int = 2) -> list[Any]:
    """Call `function(rank, *arguments)` on each of several ranks; it must be importable, its result plain values.

    The ranks are forked from a server that has imported the libraries once: imports take longer than most of these functions.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        words = (dict(os.environ), folder, function, arguments, world)
        torch.multiprocessing.start_processes(work, words, nprocs=world, start_method="forkserver")
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(world)]
