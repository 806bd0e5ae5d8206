"""Compares a training step of Llama-2 7B's shape with transformers, peft and bitsandbytes as documented: time and memory.

    python tests/benchmarks/full_size.py --folder FOLDER
    python tests/benchmarks/full_size.py --shape smollm2 --rounds 1

An optimizer step of 256 tokens in 8 bit, on the CPU, with gradient checkpointing and LoRA of rank 8 on q_proj and v_proj. The
weights are random, and are written once to --folder (13.5 GB). The last of `--steps` steps counts. Memory is the peak of the
process (VmHWM), with loading and without. Where memory or disk is too small, the script says so and measures nothing.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from clocked import fit, long_rows
from contenders import Figures, Ratio, main, say
from documented import BFLOAT16, DTYPE, documented_model
from process_memory import peak_so_far, status

from onion_lightning.model.module import OnionModule

NEEDS = {"7b": (22, 16), "13b": (20, 29)}  # GB of memory and of disk; the weights of 13B are shared by two ranks


def too_small(shape: str, base: Path) -> str | None:
    """Return why a shape cannot be trained here; None if it can."""
    if shape not in NEEDS:
        return None
    needed, room = NEEDS[shape]
    available = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    memory = int(available.split()[1]) * 1024 / 1e9
    if memory < needed:
        return f"needs {needed} GB of memory, and {memory:.1f} GB are available"
    existing = next(folder for folder in (base, *base.parents) if folder.exists())
    disk = shutil.disk_usage(existing).free / 1e9
    if disk < room and not (base / "config.json").exists():
        return f"needs {room} GB of disk in {existing}, and {disk:.1f} GB are free"
    return None


def base_folder(args: argparse.Namespace) -> Path:
    return Path(args.folder or tempfile.gettempdir()) / f"random-{args.shape}"


def figures(seconds: list[float], loaded: int) -> Figures:
    return {
        "seconds": seconds[-1],
        "first step s": seconds[0],
        "peak GB": max(loaded, status("VmHWM")) / 1e9,
        "peak GB of the steps": status("VmHWM") / 1e9,
    }


def ours(args: argparse.Namespace) -> Figures:
    module = OnionModule(str(base_folder(args)), "int8", gradient_checkpointing=True, seed=0)
    clock = fit(module, long_rows(args.steps, args.tokens), args.tokens, 1)
    return figures(clock.seconds, clock.loading)


def documented(args: argparse.Namespace) -> Figures:
    model = documented_model(str(base_folder(args)), "8", checkpointing=True).train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-4)
    loaded, seconds = peak_so_far(), []
    for _ in range(args.steps):
        ids = torch.randint(3, 600, (1, args.tokens))
        began = time.perf_counter()
        with torch.autocast("cpu", DTYPE, enabled=BFLOAT16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return figures(seconds, loaded)


CONTENDERS = {"ours": ours, "documented": documented}
RATIOS = [
    Ratio("seconds", "documented", "ours", 2.5),
    Ratio("peak GB", "ours", "documented", 1, "at most"),
    Ratio("peak GB of the steps", "ours", "documented", 1, "at most"),
]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the weights are kept; default: the system's folder for temporary files")
    parser.add_argument("--shape", choices=("tiny", "smollm2", "7b", "13b"), default="7b")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="only write the weights")
    return parser


def prepare(args: argparse.Namespace) -> None:
    """Write the weights before the contenders start; end the script if there is no room, or nothing else to do."""
    if why := too_small(args.shape, base_folder(args)):
        say(f"skipped: {why}")
        sys.exit(0)
    from gpu import write_model

    write_model(args.shape, base_folder(args))
    if args.write:
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(arguments(), CONTENDERS, RATIOS, prepare=prepare))
