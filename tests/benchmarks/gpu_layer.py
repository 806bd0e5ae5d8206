"""Times one frozen linear layer on a GPU: ours in 8 and 4 bit, bitsandbytes' own, and one with 16-bit weights.

    python tests/benchmarks/gpu_layer.py
    python tests/benchmarks/gpu_layer.py --features 64 128 --rows 1 8 --device cpu

Prints a Markdown table with the microseconds of the forward pass without gradients (generation), and of the forward and
backward pass (training), for each number of rows: medians of rounds in which all layers take turns.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from onion_lightning.model.frozen_linear import freeze_quantized_layers


def layers(features: tuple[int, int], dtype: torch.dtype, device: torch.device) -> dict[str, torch.nn.Module]:
    """Return layers with the same weights, by name."""
    full = torch.nn.Linear(*features, bias=False).to(device, dtype).requires_grad_(False)
    eight = Linear8bitLt(*features, bias=False, has_fp16_weights=False)
    four = Linear4bit(*features, bias=False, compute_dtype=dtype, compress_statistics=True, quant_type="nf4")
    found: dict[str, torch.nn.Module] = {"16 bit": full}
    for name, layer in (("8 bit", eight), ("4 bit", four)):
        layer.load_state_dict({"weight": full.weight.cpu().half()})
        layer.requires_grad_(False).to(device)
        frozen = torch.nn.Sequential(copy.deepcopy(layer))
        freeze_quantized_layers(frozen, dtype)
        found |= {f"ours, {name}": frozen, f"bitsandbytes, {name}": layer}
    return found


def forward(layer: torch.nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        layer(x)


def both(layer: torch.nn.Module, x: torch.Tensor) -> None:
    x.grad = None
    layer(x).sum().backward()


def microseconds(call: Callable[[], None], device: torch.device, times: int) -> float:
    """Return the mean time of a call; GPU calls are queued one after the other, as in training."""
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / times * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs=2, type=int, default=[4096, 11008], help="in and out")
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 64, 512, 4096])
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--device", type=torch.device, default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=20, help="calls in a round")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    made = layers(tuple(args.features), dtype, args.device)
    card = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "CPU"
    print(
        f"{card}, torch {torch.__version__}, {args.features[0]} to {args.features[1]} features, {args.dtype}; microseconds\n"
    )
    print(f"| rows | pass | {' | '.join(made)} |\n| ---: | --- |{' ---: |' * len(made)}")
    for rows in args.rows:
        x = torch.randn(rows, args.features[0], dtype=dtype, device=args.device, requires_grad=True)
        for name, run in (("forward", forward), ("forward and backward", both)):
            calls = {key: (lambda run=run, layer=layer, x=x: run(layer, x)) for key, layer in made.items()}
            found = [
                {key: microseconds(call, args.device, args.times) for key, call in calls.items()}
                for _ in range(args.rounds)
            ]
            medians = (statistics.median(one[key] for one in found) for key in made)
            print(f"| {rows:,} | {name} | {' | '.join(f'{value:,.0f}' for value in medians)} |", flush=True)


if __name__ == "__main__":
    main()
