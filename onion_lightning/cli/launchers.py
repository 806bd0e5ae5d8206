"""Determines who started this process, and makes ranks start and exit together."""

import atexit
import ctypes
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from onion_lightning.errors import OnionError, shorten
from onion_lightning.messages import tell
from onion_lightning.ranks import gather

__all__ = [
    "Launcher",
    "connect_ranks",
    "count_devices",
    "die_with_parent",
    "find_launcher",
    "follow_launcher",
    "started_by_lightning",
    "wait_for_parent",
]


class Launcher(NamedTuple):
    """What started the ranks of this job.

    Attributes:
        name: of the launcher.
        devices: ranks on each node.
        num_nodes: nodes.
        options: the launcher's options for both numbers.
    """

    name: str
    devices: int
    num_nodes: int
    options: dict[str, str]


def find_launcher() -> Launcher | None:
    """Return the launcher that started this process, as its environment describes it; None without one.

    Raises:
        OnionError: SLURM starts only this process, or not the same number of ranks on each node.
    """
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables:
        options = {"devices": "--nproc_per_node", "num_nodes": "--nnodes"}
        return Launcher(
            "torchrun", int(variables["LOCAL_WORLD_SIZE"]), int(variables.get("GROUP_WORLD_SIZE", "1")), options
        )
    if "SLURM_NTASKS" not in variables or variables.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None  # Lightning decides this in the same way
    tasks, nodes = int(variables["SLURM_NTASKS"]), int(variables.get("SLURM_NNODES", "1"))
    if tasks > 1 and "SLURM_STEP_ID" not in variables:
        raise OnionError(
            f"--ntasks {tasks}: this command is one process and would wait for {tasks - 1} others; start it with srun in the"
            " batch script."
        )
    per_node = variables.get("SLURM_NTASKS_PER_NODE")
    if per_node is None and tasks > 1:
        raise OnionError(
            f"--ntasks {tasks}: SLURM may distribute the ranks unevenly; give --ntasks-per-node in the batch script instead."
        )
    return Launcher("SLURM", int(per_node or tasks), nodes, {"devices": "--ntasks-per-node", "num_nodes": "--nodes"})


def follow_launcher(options: Any, typed: set[str]) -> None:
    """Set the Trainer's devices and nodes to those of the launcher. What only a YAML says is replaced, with a message.

    Args:
        options: the configuration's `trainer` section, changed in place.
        typed: dotted names of the flags on the command line.

    Raises:
        OnionError: a flag contradicts the launcher.
    """
    launcher = find_launcher()
    if launcher is None:
        return
    for name, started in (("devices", launcher.devices), ("num_nodes", launcher.num_nodes)):
        given = options[name]
        wanted = count_devices(given)
        if wanted == started:
            continue
        option = f"{launcher.options[name]} {started}"
        if wanted is not None and f"trainer.{name}" in typed:
            raise OnionError(
                f"--trainer.{name} {given}: contradicts {launcher.name}, which was given {option}; change one of them, or"
                f" omit the flag to use {started}."
            )
        if wanted is not None and given != 1:  # 1 is the default
            tell(f"--trainer.{name} {given}: {launcher.name} was given {option}, which is used instead.")
        options[name] = started


def count_devices(given: Any) -> int | None:
    """Return the number of devices or nodes that a value asks for; None if it leaves the number open."""
    if isinstance(given, list):
        return len(given)
    text = str(given)
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return int(text) if text.isdigit() else None


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


def connect_ranks(seconds: float, backend: str | None) -> dict[str, str]:
    """Connect the ranks that torchrun or SLURM has started, before they read what they have to agree on.

    Lightning finds them connected. Ranks that Lightning starts itself are connected by it, later.

    Without `--rdzv_backend c10d`, torchrun keeps one store for all attempts, which still contains the addresses of the
    ranks of earlier attempts: new ranks may read those and fail with "connection refused" (pytorch#135712, fixed for c10d
    only). Here each attempt gets a prefix of its own. With several torchrun agents the attempts may be counted differently,
    so those are left to c10d.

    Args:
        seconds: the time limit of each collective.
        backend: by default, gloo for tensors in host memory and NCCL for those on GPUs.

    Returns:
        The names of the machines by their addresses, without addresses that several share.

    Raises:
        OnionError: not all of them have connected in time.
    """
    launcher = find_launcher()
    if launcher is None or launcher.devices * launcher.num_nodes == 1 or dist.is_initialized():
        return {}
    environment = TorchElasticEnvironment() if launcher.name == "torchrun" else SLURMEnvironment(auto_requeue=False)
    address, port = environment.main_address, environment.main_port
    rank, world = environment.global_rank(), environment.world_size()
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = None
    try:
        if attempt != "0" and launcher.num_nodes == 1:
            opened = dist.TCPStore(address, port, is_master=False)
            store = dist.PrefixStore(f"onion_lightning/{attempt}", opened)
        dist.init_process_group(
            backend or ("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"),
            timeout=timedelta(seconds=seconds),
            store=store,
            rank=rank,
            world_size=world,
        )
    except (RuntimeError, ValueError) as error:
        raise OnionError(
            f"{launcher.name}: rank {rank} of {world} on {socket.gethostname()} could not connect to the others at"
            f" {address}:{port} ({shorten(error)}); check that all machines were started and reach that address."
        ) from error
    atexit.register(destroy_process_group)
    hosts = gather((own_address(address, port), socket.gethostname()))
    names = {place: {name for other, name in hosts if other == place} for place, _ in hosts}
    return {place: min(found) for place, found in names.items() if len(found) == 1}


def own_address(address: str, port: int) -> str:
    """Return the address that this machine has in the network of another one. Nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))
        return str(probe.getsockname()[0])
    return ""


def destroy_process_group() -> None:
    with suppress(RuntimeError):  # the other ranks may be gone
        dist.destroy_process_group()
