"""Compares kinds of adapters, optimizers and noise: the held-out loss of the demo after the same number of steps.

    python tests/benchmarks/methods.py
    python tests/benchmarks/methods.py --only default dora --steps 12 --seeds 42

Runs `fit` with configs/cpu.yaml and one flag more for each method and seed, seeds in turn. Prints a Markdown table: the mean
of the validation loss and of its difference from the default with the same seed, both with 95% intervals over seeds (t
distribution), and the median time of a step divided by that of the default with the same seed. A default changes only where
the interval of the difference is below 0.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from contenders import machine
from scipy import stats

ROOT = Path(__file__).parent.parent.parent
METHODS = {
    "default": (),
    "rsLoRA": ("--model.use_rslora", "true"),
    "DoRA": ("--model.use_dora", "true"),
    "gaussian": ("--model.init_lora_weights", "gaussian"),
    "LoRA+ 4": ("--model.lora_plus_ratio", "4"),
    "LoRA+ 16": ("--model.lora_plus_ratio", "16"),
    "NEFTune 5": ("--model.neftune_alpha", "5"),
    "adamw_8bit": ("--model.optimizer", "adamw_8bit"),
}


def fit(method: str, seed: int, steps: int, folder: Path) -> tuple[float, float]:
    """Train, and return the validation loss after the last step and the seconds of the median step."""
    command = [sys.executable, "-m", "onion_lightning", "fit", "--config", "configs/cpu.yaml", *METHODS[method]]
    command += ["--seed_everything", str(seed), "--trainer.max_steps", str(steps), "--checkpoint.dirpath", str(folder)]
    command += ["--trainer.val_check_interval", str(steps), "--samples.count", "0", "--trainer.logger", "false"]
    command += ["--trainer.limit_train_batches", str(steps), "--trainer.num_sanity_val_steps", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    with (folder / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    speeds = [float(row["tokens/s"]) for row in rows if row.get("tokens/s")]
    [loss] = [float(row["val/loss"]) for row in rows if row.get("val/loss")]
    return loss, 1 / statistics.median(speeds)


def interval(values: Sequence[float]) -> str:
    """Return the mean and half the width of its 95% interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    error = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:.4f} ± {error:.4f}"


def table(found: dict[tuple[str, int], tuple[float, float]], methods: Sequence[str], seeds: Sequence[int]) -> str:
    lines = [
        "| method | validation loss | difference from the default | time of a step |",
        "| --- | ---: | ---: | ---: |",
    ]
    for method in methods:
        losses = [found[method, seed][0] for seed in seeds]
        differences, ratios = "", ""
        if method != "default" and "default" in methods:
            differences = interval([found[method, seed][0] - found["default", seed][0] for seed in seeds])
            ratios = f"{statistics.median(found[method, seed][1] / found['default', seed][1] for seed in seeds):.2f}"
        lines.append(f"| {method} | {interval(losses)} | {differences} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 1, 2])
    parser.add_argument("--steps", type=int, default=24)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for method in args.only:
                began = time.monotonic()
                found[method, seed] = fit(method, seed, args.steps, Path(folder) / f"{method}-{seed}")
                took = time.monotonic() - began
                print(
                    f"{method}, seed {seed}: {found[method, seed][0]:.4f} ({took:.0f} s)", file=sys.stderr, flush=True
                )
    print(f"{args.steps} steps, seeds {', '.join(map(str, args.seeds))}; {machine()}\n")
    print(table(found, args.only, args.seeds))


if __name__ == "__main__":
    main()
