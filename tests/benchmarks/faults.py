"""Kills a run twenty times at random moments, resumes it each time, and prints what was lost.

    python tests/benchmarks/faults.py

A tiny Llama (built here) in 8 bit, LoRA dropout and accumulation on, one process, `last.ckpt` at every step. What is lost
is the difference between the adapters and curves of this run and those of one that was never stopped: nothing.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

KILLS = 20


def build_base(folder: Path) -> Path:
    from tests.tiny import save_tiny_base

    folder.mkdir()
    save_tiny_base(folder)
    return folder


def command(base: Path, run: Path, *more: str) -> list[str]:
    flags = {
        "--model.base_model": base,
        "--data.path": ROOT / "onion_lightning/data/sample/onion_sample.csv",
        "--checkpoint.dirpath": run,
        "--checkpoint.every_n_train_steps": 1,
        "--data.batch_size": 2,
        "--data.global_batch_size": 4,
        "--data.max_length": 400,
        "--model.learning_rate": 0.01,
        "--samples.count": 0,
        "--trainer.accelerator": "cpu",
        "--trainer.devices": 1,
        "--trainer.max_epochs": 12,
        "--trainer.num_sanity_val_steps": 0,
        "--trainer.logger": "false",
        "--trainer.log_every_n_steps": 1,
        "--trainer.enable_progress_bar": "false",
    }
    words = [str(word) for pair in flags.items() for word in pair]
    return [sys.executable, "-m", "onion_lightning", "fit", *words, *more]


def curve(run: Path) -> dict[int, str]:
    with (run / "metrics.csv").open(newline="") as stream:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(stream) if row["train/loss"]}


def wait_for_a_step(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process that was just started has written a checkpoint of its own."""
    began = time.time()
    while not (run / "last.ckpt").exists() or (run / "last.ckpt").stat().st_mtime < began:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)


def main() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    quiet = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:
        base = build_base(Path(folder) / "base")
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        began = time.monotonic()
        subprocess.run(command(base, whole), check=True, **quiet)
        seconds = time.monotonic() - began
        last = whole / "last.ckpt"
        print(f"undisturbed: {torch.load(last, weights_only=True)['global_step']} steps in {seconds:.0f} s")
        for number in range(1, KILLS + 1):
            process = subprocess.Popen(command(base, killed, "--ckpt_path", "last"), **quiet)
            wait_for_a_step(killed, process)
            time.sleep(random.uniform(0, 0.8) * seconds / KILLS)
            process.kill()
            process.wait()
            step = torch.load(killed / "last.ckpt", weights_only=True)["global_step"]
            print(f"kill {number:2}: last.ckpt opens, at step {step}", flush=True)
        subprocess.run(command(base, killed, "--ckpt_path", "last"), check=True, **quiet)
        report(whole, killed)


def report(whole: Path, killed: Path) -> None:
    one, other = (torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, killed))
    differ = sum(int((one[name] != other[name]).sum()) for name in one)
    losses = sum(curve(whole)[step] != curve(killed).get(step) for step in curve(whole))
    print(
        f"lost: {differ} of {sum(v.numel() for v in one.values())} adapter weights differ, {losses} of {len(curve(whole))}"
        " losses differ"
    )
    sys.exit(bool(differ or losses))


if __name__ == "__main__":
    main()
