"""The devices that a run is planned for: a card by name, those of this machine, or its CPU."""

import time
from dataclasses import dataclass, replace

import torch

from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import best_precision, compute_dtype, has_bfloat16
from onion_lightning.planning.memory import CUDA_CONTEXT
from onion_lightning.planning.report.cards import Card, find_card, match_card
from onion_lightning.planning.report.communication import Link, read_network
from onion_lightning.planning.start_line import available_memory, describe_device
from onion_lightning.planning.training_step import DeviceType
from onion_lightning.training.session import TrainerFlags

__all__ = ["SPARE", "Target", "choose_target", "product_rate"]

SPARE = 0.1  # fraction of a device's memory that stays free, for fragmentation
NO_CARD = "a GPU (none is here; name one with --gpu)"


@dataclass(frozen=True)
class Target:
    """What a run is planned for.

    Attributes:
        name: of each device.
        device_type: cuda or cpu.
        precision: as --trainer.precision.
        ranks: number of devices on all nodes; each has a process.
        memory: of each device in bytes; on the CPU, each rank's share of it; None if unknown.
        rate: floating-point operations of matrix products a second in this precision, at most; None if unknown.
        bandwidth: of the memory in bytes a second; None if unknown, or if `rate` was measured.
        measured: whether `rate` was measured.
        one_assumed: whether the flags do not say how many devices a node has, so that one was assumed.
        nodes: number of nodes.
        network: what connects them; None if it is unknown.
    """

    name: str
    device_type: DeviceType
    precision: str
    ranks: int
    memory: int | None
    rate: float | None
    bandwidth: float | None
    measured: bool = False
    one_assumed: bool = False
    nodes: int = 1
    network: Link | None = None

    @property
    def devices(self) -> int:
        """The number of devices of a node."""
        return self.ranks // self.nodes

    @property
    def usable(self) -> int | None:
        """The memory that the peak may have, in bytes."""
        return None if self.memory is None else int((1 - SPARE) * self.memory) - CUDA_CONTEXT

    def describe(self) -> str:
        """Return the devices in words, such as "8 × A100 80GB"."""
        return self.name if self.ranks == 1 else f"{self.ranks} × {self.name}"


def choose_target(gpu: str | None, network: str | None, flags: TrainerFlags, device: torch.device) -> Target:
    """Return what a run is planned for.

    Args:
        gpu: the card that was asked for, whatever the accelerator; by default that of this machine, or its CPU.
        network: rate of the network between nodes, such as "25 Gbit/s"; None if it is unknown.
        flags: of the Trainer.
        device: of this machine.

    Raises:
        OnionError: there is no such card, it has no such precision, or the network is not a rate or connects one node only.
    """
    link = None if network is None else read_network(network)
    if link is not None and flags.num_nodes == 1:
        raise OnionError(
            f"--network {network}: has no effect on one node; give --trainer.num_nodes 2 or more, or omit --network."
        )
    return replace(choose_device(gpu, flags, device), nodes=flags.num_nodes, network=link)


def choose_device(gpu: str | None, flags: TrainerFlags, device: torch.device) -> Target:
    if gpu is not None:
        target = on_card(find_card(gpu), flags, (flags.devices or 1) * flags.num_nodes)
        return replace(target, one_assumed=flags.devices is None)
    if flags.accelerator != "cpu" and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        total = torch.cuda.get_device_properties(device).total_memory
        known = match_card(name) or Card(name, 0, bfloat16=has_bfloat16(device))
        ranks = (flags.devices or torch.cuda.device_count()) * flags.num_nodes
        return on_card(known._replace(name=name, gigabytes=total / 1e9), flags, ranks)
    ranks = (flags.devices or 1) * flags.num_nodes
    if flags.accelerator in ("gpu", "cuda"):
        return on_card(Card(NO_CARD, 0), flags, ranks)
    return on_cpu(flags, ranks)


def on_card(card: Card, flags: TrainerFlags, ranks: int) -> Target:
    precision = flags.precision or ("bf16-mixed" if card.bfloat16 else "16-mixed")
    dtype = compute_dtype(precision)
    if dtype == torch.bfloat16 and not card.bfloat16:
        raise OnionError(
            f"--trainer.precision {precision}: {card.name} has no bfloat16; give 16-mixed, or omit the flag."
        )
    known = card.teraflops is not None and dtype != torch.float32  # the table has no rates of float32
    return Target(
        name=card.name,
        device_type="cuda",
        precision=precision,
        ranks=ranks,
        memory=round(card.gigabytes * 1e9) or None,
        rate=1e12 * card.teraflops if known and card.teraflops else None,
        bandwidth=1e9 * card.bandwidth if card.bandwidth else None,
    )


def on_cpu(flags: TrainerFlags, ranks: int) -> Target:
    """Return this machine's CPU. As in `fit`, a precision in which it is slow is replaced."""
    device = torch.device("cpu")
    precision = best_precision(device)
    if flags.precision is not None:
        compute_dtype(flags.precision)  # refuses what `fit` refuses
        precision = flags.precision if flags.precision == "32-true" else precision
    total, here = available_memory(device), ranks // flags.num_nodes
    return Target(
        name=describe_device(device, 1),
        device_type="cpu",
        precision=precision,
        ranks=ranks,
        memory=None if total is None else total // here,
        rate=product_rate(compute_dtype(precision)),
        bandwidth=None,
        measured=True,
    )


def product_rate(dtype: torch.dtype, size: int = 1024, rounds: int = 5) -> float:
    """Measure the floating-point operations a second of a matrix product on this CPU: the best of a few rounds."""
    one = torch.ones(size, size, dtype=dtype)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)
