"""Which process speaks for the job, before Lightning has told ranks apart."""

import os

from rich.console import Console

__all__ = ["is_rank_zero", "started_by_lightning", "tell"]


def is_rank_zero() -> bool:
    """Whether this process speaks for the job, before Lightning has told ranks apart."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def started_by_lightning() -> bool:
    """Whether this process is a rank that another rank on this node started."""
    others = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")
    return os.environ.get("LOCAL_RANK", "0") != "0" and not any(name in os.environ for name in others)


def tell(message: str) -> None:
    """Say something to the user, once a job."""
    if is_rank_zero():
        Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)
