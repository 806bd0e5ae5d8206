"""Predicts the bytes that ranks send each other in an optimizer step, and the seconds that this takes."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from onion_lightning.errors import check_range

__all__ = [
    "LOCAL",
    "NETWORK_LATENCY",
    "NVLINK",
    "PCIE",
    "Communication",
    "Gathers",
    "Link",
    "Range",
    "all_gather",
    "communicate",
    "read_network",
]

Range = tuple[float, float]  # from the least to the most

FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20  # bytes after which DDP closes a bucket of gradients and sends it
SIGNALS = 4, 4  # bytes of the loss and of whether to stop, which are added up once in a step
RATE = re.compile(r"(\d+(?:\.\d+)?) ?([GMgm])((?i:bit/s)|bps|b/s|B/s)(?:, ?(\d+(?:\.\d+)?) ?(us|µs|ms))?")


@dataclass(frozen=True)
class Link:
    """What connects ranks: bytes a second in each direction, and the seconds until the first byte arrives."""

    name: str
    bandwidth: float
    latency: float

    def seconds(self, sent: float, hops: int) -> float:
        """Return the time of `sent` bytes with `hops` one after the other; 0 if none crosses this link."""
        return sent / self.bandwidth + hops * self.latency if hops else 0.0


# As NCCL's cost model rates them (`src/graph/topo.h`, and the protocol Simple in `tuning.cc`): the 12 NVLinks of an A100, and
# 16 lanes of PCIe 4.0, twice the rate there of PCIe 3.0. They have not been measured.
NVLINK = Link("NVLink", 240e9, 4e-6)
PCIE = Link("PCIe", 24e9, 5.7e-6)
NETWORK_LATENCY = 14e-6
LOCAL = Link("", math.inf, 0.0)  # one rank on each node, or the memory of a CPU, whose time is not counted


@dataclass(frozen=True)
class Gathers:
    """Sharded weights that each rank gathers in an optimizer step.

    Attributes:
        count: number of all-gathers.
        size: bytes of each, on average, once they are gathered.
        nodes: number of nodes whose ranks share the weights.
        received: bytes that each rank receives.
    """

    count: int
    size: float
    nodes: int
    received: int


@dataclass(frozen=True)
class Communication:
    """What the ranks communicate in an optimizer step.

    Attributes:
        link: name of what connects the ranks of a node.
        sent: bytes of gradients that each rank sends, or each node to another one.
        within: seconds on the links of a node.
        between: seconds on the network between nodes.
        share: of the time of a step with communication, from the least to the most; None if the time is unknown.
    """

    link: str
    sent: int
    within: float
    between: float
    share: Range | None

    @property
    def seconds(self) -> float:
        """An upper bound: nothing overlaps with computation, nor the links of a node with the network."""
        return self.within + self.between


def read_network(text: str) -> Link:
    """Return a network from a rate and, optionally, a latency, such as "25 Gbit/s", "10 GB/s" or "25 Gbit/s, 50 us".

    Raises:
        OnionError: the text is something else, or the rate is 0.
    """
    found = RATE.fullmatch(text.strip())
    example = 'a rate above 0 such as "25 Gbit/s" or "10 GB/s", or with a latency, "25 Gbit/s, 50 us"'
    check_range("--network", text or "''", found is not None and float(found[1]) > 0, example)
    assert found is not None
    bits = 1 if found[3] == "B/s" else 8
    rate = float(found[1]) * {"G": 1e9, "M": 1e6}[found[2].upper()] / bits
    latency = float(found[4]) * (1e-3 if found[5] == "ms" else 1e-6) if found[4] else NETWORK_LATENCY
    return Link(text.strip(), rate, latency)


def all_reduces(gradients: int) -> Iterator[int]:
    """Yield the bytes of each all-reduce of an optimizer step, whatever the accumulation.

    DDP sends the adapters' gradients in buckets, with the last micro-batch only: Lightning suppresses it in the others
    (`no_sync`). A bucket ends with the tensor that fills it, so that real ones are slightly larger.
    """
    size = FIRST_BUCKET
    while gradients > 0:
        yield min(size, gradients)
        gradients, size = gradients - size, BUCKET
    yield from SIGNALS


def all_reduce(size: int, nodes: int, devices: int, within: Link, network: Link) -> tuple[float, float, float]:
    """Return the bytes that each rank sends for an all-reduce, and its seconds within a node and between nodes.

    This is the faster of two algorithms, each with the number of hops of NCCL's cost model (`ncclTopoTuneModel` in
    `src/graph/tuning.cc`) and without its corrections for protocols:

    - a ring through all n ranks, in which each sends 2 (n - 1) / n of the bytes (Patarasuk and Yuan, "Bandwidth optimal
      all-reduce algorithms for clusters of workstations", 2009); of its 2 (n - 1) hops, 2 (nodes - 1) cross the network;
    - two trees of nodes (Sanders, Speck and Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan",
      2009), in which each sends twice the bytes, over a logarithmic number of hops.
    """
    sent, inner, outer = all_gather(size, nodes, devices, within, network)
    ring = 2 * sent, 2 * inner, 2 * outer  # a reduce-scatter, and an all-gather
    sent, hops = 2.0 * size, 2 * (nodes - 1).bit_length()
    trees = sent, within.seconds(sent, 2 * (devices - 1)), network.seconds(sent, hops)
    return min(ring, trees, key=lambda one: one[1] + one[2])


def all_gather(size: float, nodes: int, devices: int, within: Link, network: Link) -> tuple[float, float, float]:
    """Return the bytes that each rank receives for an all-gather, and its seconds within a node and between nodes.

    NCCL takes a ring, in which each of n ranks receives (n - 1) / n of the bytes over n - 1 hops; nodes - 1 of them cross the
    network.
    """
    ranks = nodes * devices
    received = (ranks - 1) / ranks * size
    return received, within.seconds(received, ranks - nodes), network.seconds(received, nodes - 1)


def communicate(
    gradients: int,
    nodes: int,
    devices: int,
    within: Link,
    network: Link,
    step: Range | None,
    weights: Gathers | None = None,
) -> Communication:
    """Predict the communication of an optimizer step.

    Args:
        gradients: bytes of the adapters' gradients.
        nodes: number of nodes.
        devices: number of ranks on each node.
        within: the links of a node.
        network: what connects the nodes.
        step: seconds of the step without communication.
        weights: that are gathered; None if each rank has all frozen weights, which are then not communicated.
    """
    parts = [all_reduce(size, nodes, devices, within, network) for size in all_reduces(gradients)]
    sent, inner, outer = (sum(column) for column in zip(*parts, strict=True))
    if weights is not None:
        _, inside, across = all_gather(weights.size, weights.nodes, devices, within, network)
        inner, outer = inner + weights.count * inside, outer + weights.count * across
    total = inner + outer
    share = None if step is None else (total / (total + step[1]), total / (total + step[0]))
    return Communication(within.name, round(sent), inner, outer, share)
