"""Measures how soon a command starts, what checkpoints cost, and how two commands share the cores of a CPU.

    python tests/benchmarks/start.py
    python tests/benchmarks/start.py --only help predict --rounds 5

What is compared runs in turn (A B A B), each time in a process of its own. Each ratio or difference is that of one round, and
their median counts. Prints a Markdown table for each group; the exit status is 1 if a median misses its target.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

ROOT = Path(__file__).parent.parent.parent
ONION = [sys.executable, "-m", "onion_lightning"]
LOAD = """import os, torch
from onion_lightning.model.base_model import best_precision, compute_dtype, load_model
cpu = torch.device("cpu")
load_model("demo", "int8", cpu, compute_dtype(best_precision(cpu)))
os._exit(0)"""
# Command lines that print something and end, with their exit status.
STARTS = {
    f"{name} --help".strip(): 0 for name in ("fit", "", "attend", "evaluate", "plan", "preview", "serve", "verify")
}
STARTS |= {"--version": 2, "fit --data.batch_sise 3": 2}
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
DEFAULT = {"KMP_BLOCKTIME": "200"}  # LLVM's default, which GNU's OpenMP ignores: __main__.py then sets nothing
EVERY = 18  # steps between two checkpoints, as in configs/cpu.yaml

Figures = dict[str, float]


class FirstStep(pl.Callback):
    """Ends the process when the first training step begins."""

    def on_train_batch_start(self, *args: Any) -> None:
        os._exit(0)


class Saves(pl.Callback):
    """Writes the time that each of two checkpoints took as a share of the steps before it, and ends the process."""

    def __init__(self, file: str) -> None:
        self.file, self.saved, self.shares = file, 0.0, []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began, save = time.perf_counter(), trainer.save_checkpoint

        def timed(*args: Any, **kwargs: Any) -> None:
            began = time.perf_counter()
            save(*args, **kwargs)
            self.saved += time.perf_counter() - began

        trainer.save_checkpoint = timed

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 0 or trainer.global_step % EVERY:
            return
        now = time.perf_counter()
        self.shares.append(self.saved / (now - self.began - self.saved))
        self.began, self.saved = now, 0.0
        if len(self.shares) == 2:
            Path(self.file).write_text(json.dumps(self.shares))
            os._exit(0)


def seconds(folder: Path, *commands: Sequence[str], status: int = 0, **variables: str) -> list[float]:
    """Run commands side by side, and return the time that each took. OpenMP waits as `variables` say, or by default."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder)} | variables
    ended: dict[int, float] = {}
    with (folder / "errors").open("w+") as errors:
        began = time.perf_counter()
        options: Any = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": errors}
        running = [subprocess.Popen(one, **options) for one in commands]
        while len(ended) < len(running):
            time.sleep(0.005)
            now = time.perf_counter()
            ended |= {i: now for i, one in enumerate(running) if i not in ended and one.poll() is not None}
        if any(one.returncode != status for one in running):
            sys.exit(f"{(folder / 'errors').read_text()}\nfailed: {commands}")
    return [ended[i] - began for i in range(len(running))]


def fit(folder: Path, callback: str, wandb: bool = False, **arguments: str) -> list[str]:
    """Return a `fit` with configs/cpu.yaml on 7,000 rows, with a callback of this file, that fills the caches once."""
    settings = yaml.safe_load((ROOT / "configs/cpu.yaml").read_text(encoding="utf-8"))
    run = settings["checkpoint"]["dirpath"] = settings["trainer"]["logger"]["init_args"]["save_dir"] = str(
        folder / "run"
    )
    settings["data"]["path"] = str(folder / "rows.csv")
    settings["trainer"]["callbacks"] = [{"class_path": f"tests.benchmarks.start.{callback}", "init_args": arguments}]
    if not wandb:
        settings["trainer"]["logger"] = False
    config = Path(f"{run}-{callback}-{wandb}.yaml")
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    if not (folder / "rows.csv").exists():
        from rows import write_rows  # late: the callbacks of this file are imported from elsewhere

        write_rows(folder / "rows.csv", 7000, 100, 400)
        seconds(folder, fit(folder, "FirstStep"))
    return [*ONION, "fit", "--config", str(config)]


def measure_help(folder: Path) -> Figures:
    [imported] = seconds(folder, [sys.executable, "-c", "import lightning.pytorch.cli"])
    found = {"import lightning.pytorch.cli (s)": imported}
    for words, status in STARTS.items():
        [taken] = seconds(folder, [*ONION, *words.split()], status=status)
        found |= {f"`{words}` (s)": taken, f"`{words}` minus the import (s)": taken - imported}
    return found


def measure_fit(folder: Path) -> Figures:
    plain, logged = fit(folder, "FirstStep"), fit(folder, "FirstStep", wandb=True)
    loading, first, with_wandb = (seconds(folder, one)[0] for one in ([sys.executable, "-c", LOAD], plain, logged))
    return {
        "loading the weights (s)": loading,
        "second fit to its first step (s)": first,
        "the same with W&B offline (s)": with_wandb,
        "second fit / loading": first / loading,
        "second fit with W&B / loading": with_wandb / loading,
    }


def measure_checkpoints(folder: Path) -> Figures:
    seconds(folder, fit(folder, "Saves", file=str(folder / "shares")))
    first, later = json.loads((folder / "shares").read_text())
    return {f"first checkpoint / {EVERY} steps": first, f"later checkpoint / {EVERY} steps": later}


def measure_predicts(folder: Path) -> Figures:
    flags = ["--config", "configs/cpu.yaml", "--data.headlines", '["Area Man Declares War On Tuesday"]']
    predict = [*ONION, "predict", *flags, "--model.max_new_tokens", "40", "--articles.path"]
    one, two = [*predict, str(folder / "1.jsonl")], [*predict, str(folder / "2.jsonl")]
    [default], [alone] = seconds(folder, one, **DEFAULT), seconds(folder, one)
    slower = max(seconds(folder, one, two))
    return {
        "one predict (s)": alone,
        "one predict, OpenMP's default (s)": default,
        "the slower of two at once (s)": slower,
        "slower of two / one": slower / alone,
        "one / one, OpenMP's default": alone / default,
    }


GROUPS = {"help": measure_help, "fit": measure_fit, "checkpoints": measure_checkpoints, "predict": measure_predicts}
AT_MOST = {f"`{words}` minus the import (s)": 0.5 for words in STARTS}
AT_MOST |= {"second fit / loading": 1.2, "second fit with W&B / loading": 1.2}
AT_MOST |= {f"{which} checkpoint / {EVERY} steps": 0.01 for which in ("first", "later")}
AT_MOST |= {"slower of two / one": 2.5, "one / one, OpenMP's default": 1.03}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to run; by default, all"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each command runs")
    args = parser.parse_args()
    missed = False
    for group in args.only:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rounds = [GROUPS[group](Path(folder)) for _ in range(args.rounds)]
        print(f"\n| {group} | median (range) | at most | |\n| --- | ---: | ---: | --- |")
        for name in rounds[0]:
            values = [found[name] for found in rounds]
            median, most = statistics.median(values), AT_MOST.get(name)
            missed |= most is not None and median > most
            verdict = "" if most is None else "met" if median <= most else "**missed**"
            figures = f"{median:.3g} ({min(values):.3g} to {max(values):.3g})"
            print(f"| {name} | {figures} | {most or ''} | {verdict} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
