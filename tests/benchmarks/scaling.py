"""Draws how a run scales to 1,024 GPUs, and measures the formula that predicts it on a slow network between processes.

    python tests/benchmarks/scaling.py --output scaling.svg
    python tests/benchmarks/scaling.py --measure

Weak scaling: every GPU has 8 rows in a step, so that the global batch grows with their number. The time of a step without
communication is what `plan` predicts for configs/ddp8.yaml on eight A100 80GB; communication is what it predicts with
--network, for nodes of eight GPUs with NVLink. Nothing of that is measured.

--measure runs the all-reduces of a step (gloo, the gradients of configs/ddp8.yaml) between 2 and 4 processes, each in a
network namespace with a limited rate and latency, and compares bytes and seconds with the same formula. Linux, as root.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import slow_network
import torch
import torch.distributed as dist
from contenders import machine, say

from onion_lightning.planning.report.communication import (
    LOCAL,
    NVLINK,
    Communication,
    Range,
    all_reduces,
    communicate,
    read_network,
)

ROOT = Path(__file__).parent.parent.parent
NETWORKS = ("400 Gbit/s", "100 Gbit/s", "25 Gbit/s", "10 Gbit/s", "1 Gbit/s")
GPUS = tuple(2**power for power in range(11))
NODE = 8  # GPUs
GRADIENTS = 4 * 4_194_304  # bytes: adapters of rank 8 on the queries and values of Llama-2 7B
SLOW = ("1 Gbit/s, 0 ms", "1 Gbit/s, 1 ms", "1 Gbit/s, 10 ms", "200 Mbit/s, 0 ms", "200 Mbit/s, 10 ms")
STEPS = 5


def predicted_step() -> Range:
    """Return the seconds of a step of eight GPUs, as `plan` predicts them."""
    from onion_lightning.cli.main import main

    with tempfile.TemporaryDirectory() as folder:
        if main(f"plan --config {ROOT}/configs/ddp8.yaml --gpu A100-80GB-SXM --output {folder}".split()):
            sys.exit("plan failed")
        plan = json.loads((Path(folder) / "plan.json").read_text())
    assert plan["memory"]["with_checkpointing"]["gradients"] == GRADIENTS
    low, high = plan["cost"]["step_seconds"]
    return low, high


def efficiency(gpus: int, network: str, step: Range) -> Range:
    """Return the share of a step that is not communication."""
    nodes = -(-gpus // NODE)
    found = communicate(GRADIENTS, nodes, gpus // nodes, NVLINK, read_network(network), step)
    assert found.share is not None
    return 1 - found.share[1], 1 - found.share[0]


def draw(output: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    step = predicted_step()
    found = {network: [efficiency(gpus, network, step) for gpus in GPUS] for network in NETWORKS}
    _, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for network, ranges in found.items():
        low, high = ([100 * one[end] for one in ranges] for end in (0, 1))
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        axis.plot(GPUS, middle, "o-", markersize=3, label=network)
        axis.fill_between(GPUS, low, high, alpha=0.2)
    axis.axvline(NODE, color="gray", linewidth=0.8, linestyle=":")
    axis.annotate("one node ", (NODE, 61), color="gray", ha="right")
    axis.legend(title="between nodes", loc="center left", frameon=False)
    axis.set(xscale="log", xlabel="GPUs", ylabel="speed of each GPU, % of one alone", ylim=(60, 101))
    axis.set_xticks(GPUS, [f"{gpus:,}" for gpus in GPUS])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    pyplot.savefig(output)
    print("\n".join(table(found)))


def table(found: dict[str, list[Range]]) -> list[str]:
    lines = [f"| GPUs | {' | '.join(found)} |", "| ---: |" + " ---: |" * len(found)]
    for number, gpus in enumerate(GPUS):
        if gpus in (8, 16, 32, 128, 1024):
            cells = (f"{ranges[number][0]:.1%} to {ranges[number][1]:.1%}" for ranges in found.values())
            lines.append(f"| {gpus:,} | {' | '.join(cells)} |")
    return lines


def all_reduce_steps(rank: int, ranks: int, network: str) -> dict[str, Any]:
    """Run the all-reduces of a few steps on this rank, and return the seconds of each step and the bytes of all."""
    slow_network.join(rank, read_network(network))
    store = f"tcp://{slow_network.address(0)}:29500"
    patience = timedelta(minutes=1)  # if the router has gone
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=patience)
    tensors = [torch.ones(size // 4) for size in all_reduces(GRADIENTS)]
    seconds, sent = [], 0
    for step in range(STEPS + 1):
        dist.barrier()
        before, began = slow_network.bytes_sent(rank), time.perf_counter()
        for tensor in tensors:
            dist.all_reduce(tensor)
        seconds.append(time.perf_counter() - began)
        dist.barrier()  # what this rank has sent has arrived
        sent += slow_network.bytes_sent(rank) - before if step else 0
    assert all((tensor == ranks ** (STEPS + 1)).all() for tensor in tensors)
    return {"seconds": seconds[1:], "sent": sent / STEPS}  # in the first step, connections open their windows


def measure() -> None:
    print(machine(), f"`python {' '.join(sys.argv)}`", "", sep="\n")
    print("| ranks | network | sent by each, MB | formula | difference | a step, s | formula | difference |")
    print("| ---: | --- |" + " ---: |" * 6)
    os.environ |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    for ranks in (2, 4):
        for network in SLOW:
            link = read_network(network)
            command = [sys.executable, __file__, "--ranks", str(ranks), "--network", network, "--rank"]
            found = slow_network.run(command, ranks, link)
            expected = communicate(GRADIENTS, ranks, 1, LOCAL, link, None)
            print(f"| {ranks} | {network} | {compare(found, expected)} |", flush=True)


def compare(found: list[dict[str, Any]], expected: Communication) -> str:
    """Return the cells of a row: the mean of the ranks' bytes; the median step of the slowest rank, with its range."""
    sent = statistics.mean(one["sent"] for one in found)
    steps = [max(times) for times in zip(*(one["seconds"] for one in found), strict=True)]
    middle = statistics.median(steps)
    spread = f"{middle:.3f} ({min(steps):.3f} to {max(steps):.3f})"
    bytes_ = f"{sent / 1e6:.2f} | {expected.sent / 1e6:.2f} | {sent / expected.sent - 1:+.1%}"
    return f"{bytes_} | {spread} | {expected.seconds:.3f} | {middle / expected.seconds - 1:+.1%}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="scaling.svg", help="PNG or SVG file")
    parser.add_argument("--measure", action="store_true", help="measure the formula instead; Linux, as root")
    for name, kind in (("--rank", int), ("--ranks", int), ("--network", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)  # one process of --measure
    return parser.parse_args()


if __name__ == "__main__":
    args = arguments()
    if args.rank is not None:
        print(json.dumps(all_reduce_steps(args.rank, args.ranks, args.network)), flush=True)
    elif args.measure:
        measure()
    else:
        draw(args.output)
        say(f"wrote {args.output}")
