"""Compares training steps with frozen weights that two ranks share with the same steps with whole ones: speed and memory.

    python tests/benchmarks/sharded.py
    python tests/benchmarks/sharded.py --checkpointing

Two processes with a thread each (gloo, loopback) train the demo in 8 bit, with LoRA of rank 8 on all linear layers. Each has
both models, and computes a micro-batch with the one and then with the other, so that a machine whose speed drifts affects
both; the median of the rounds' ratios counts. All gradients are compared too.
"""

import argparse
import statistics
import sys
import time
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from contenders import machine
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from onion_lightning.model.module import OnionModule
from onion_lightning.model.packed_rows import packed_hidden_states
from onion_lightning.model.sharding.layers import shard_layers
from onion_lightning.model.sharding.shares import Share

CPU = torch.device("cpu")


def build(args: argparse.Namespace, share: Share | None) -> OnionModule:
    flags: dict[str, Any] = {"target_modules": "all-linear", "gradient_checkpointing": args.checkpointing, "seed": 0}
    module = OnionModule(args.base_model, args.load_in, lora_dropout=0.0, **flags)
    module.load_base(CPU, "bf16-mixed", share)
    if share is not None:
        shard_layers(module.language_model, DeviceMesh.from_group(dist.group.WORLD, "cpu"), CPU)
    return module


def step(module: OnionModule, tokens: int) -> tuple[float, list[torch.Tensor]]:
    """Return the seconds of a micro-batch on this rank, and the gradients."""
    module.zero_grad()
    ids = torch.arange(tokens) % 500 + 5
    dist.barrier()
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        packed_hidden_states(module.language_model, ids, [tokens]).float().pow(2).mean().backward()
    dist.barrier()
    return time.perf_counter() - began, [p.grad for p in module.parameters() if p.grad is not None]


def frozen_bytes(module: OnionModule) -> int:
    local = (p.to_local() if isinstance(p, DTensor) else p for p in module.parameters() if not p.requires_grad)
    return sum(p.nbytes for p in local)


def work(rank: int, folder: str, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    limit = timedelta(minutes=5)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=limit)
    whole, shared = build(args, None), build(args, Share(rank, 2, CPU))
    ratios, seconds = [], []
    for number in range(args.rounds + 1):
        (one, expected), (other, found) = step(whole, args.tokens), step(shared, args.tokens)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        if number:  # the first round warms up
            ratios.append(one / other)
            seconds.append((one, other))
    if rank == 0:
        report(args, ratios, seconds, frozen_bytes(whole), frozen_bytes(shared))
    dist.destroy_process_group()


def report(args: argparse.Namespace, ratios: list[float], seconds: list[Any], whole: int, shared: int) -> None:
    print(machine(), f"`python {' '.join(sys.argv)}`", "", sep="\n")
    print("| weights | frozen MB a rank | tokens a second and rank |", "| --- | ---: | ---: |", sep="\n")
    for name, size, at in (("whole", whole, 0), ("shared by two", shared, 1)):
        print(f"| {name} | {size / 1e6:.1f} | {args.tokens / statistics.median(one[at] for one in seconds):.1f} |")
    low, high = min(ratios), max(ratios)
    print(
        f"\nSpeed with shared weights: {statistics.median(ratios):.2f} of that with whole ones ({low:.2f} to {high:.2f})."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base_model", default="demo")
    parser.add_argument("--load_in", choices=("int8", "nf4", "none"), default="int8")
    parser.add_argument("--tokens", type=int, default=465)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--checkpointing", action="store_true")
    with TemporaryDirectory() as place:
        torch.multiprocessing.spawn(work, (place, parser.parse_args()), nprocs=2)
