"""What torchrun's restarts need beyond Lightning's TorchElasticEnvironment."""

import atexit
import os
from contextlib import suppress

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, Strategy

__all__ = ["join_restarted_job"]


def join_restarted_job(strategy: Strategy) -> None:
    """Connect the ranks of a job that torchrun has restarted; Lightning then finds them connected.

    Without `--rdzv_backend c10d`, torchrun keeps one store over all attempts, with the addresses that the ranks of the
    attempt before had: new ranks read them at random and fail with "connection refused" (pytorch#135712, mended for c10d
    alone). Here each attempt gets a prefix of its own. With more than one torchrun the attempts may be counted differently,
    so there it is left to c10d.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1" or not isinstance(strategy, DDPStrategy):
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group(
        strategy.process_group_backend or dist.get_default_backend_for_device(strategy.root_device),
        store=dist.PrefixStore(f"onion_lightning/{attempt}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    atexit.register(leave)


def leave() -> None:
    with suppress(RuntimeError):  # the other ranks may be gone
        dist.destroy_process_group()
