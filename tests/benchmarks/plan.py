"""Compares the memory that `plan` predicts with that of a process that trains, for SmolLM2 and for Llama-2 7B's shape.

    python tests/benchmarks/plan.py demo
    python tests/benchmarks/plan.py 7b --folder FOLDER

Each case is the probe of `plan --probe true` in a process of its own, on the CPU: it loads the weights from files and trains
optimizer steps on a full micro-batch. `measured` is the growth of the process from before the model was loaded until its
highest point in these steps (VmHWM). The exit status is 1 if a prediction differs from it by more than 10%. The 7B shape has
random weights, which are written once to --folder (13.5 GB); it needs 22 GB of memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from full_size import too_small

from onion_lightning.model.base_model import LoadIn, best_precision
from onion_lightning.model.module import OnionModule
from onion_lightning.planning.memory import MemoryPlan, predict_memory
from onion_lightning.planning.report.probe import LIBRARIES, run_probe
from onion_lightning.planning.report.target import Target
from onion_lightning.pretrained.locate import load_config
from onion_lightning.private_api import TorchDispatchMode

LIMIT = 0.1
CPU = torch.device("cpu")
HERE = best_precision(CPU)


class Case(NamedTuple):
    load_in: LoadIn
    precision: str
    checkpointing: bool
    rows: int
    length: int
    filled: bool = False  # the results of matrix products are filled with a constant: the same memory in far less time


class FilledProducts(TorchDispatchMode):
    """Fills the results of matrix products with a constant: the same memory in a hundredth of the time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            return torch.full((args[0].shape[0], args[1].shape[1]), 0.01, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


DEMO = [
    Case(load_in, precision, checkpointing, 2, length)
    for precision in dict.fromkeys((HERE, "bf16-mixed"))
    for load_in in ("int8", "nf4", "none")
    for checkpointing in (False, True)
    for length in (128, 512)
]
SEVEN_B = [
    Case(load_in, precision, True, 1, length, filled=length > 256)
    for load_in, precision in (("int8", HERE), ("nf4", HERE), ("none", "bf16-mixed"))
    for length in (256, 512)
]
CASES = {"demo": DEMO, "7b": SEVEN_B}


def base_of(args: argparse.Namespace) -> str:
    return "demo" if args.model == "demo" else str(Path(args.folder) / "random-7b")


def predict(base: str, case: Case) -> int:
    """Return the predicted growth of a process in bytes, as the probe prints it."""
    return plan_of(base, case).total + LIBRARIES


def plan_of(base: str, case: Case) -> MemoryPlan:
    return predict_memory(
        load_config(base),
        load_in=case.load_in,
        precision=case.precision,
        lora_rank=8,
        target_modules=["q_proj", "v_proj"],
        gradient_checkpointing=case.checkpointing,
        rows=case.rows,
        length=case.length,
        device_type="cpu",
    )


def measure(base: str, case: Case) -> int:
    """Return the growth of this process in bytes."""
    plan = plan_of(base, case)
    module = OnionModule(base, case.load_in, gradient_checkpointing=case.checkpointing, seed=0)
    target = Target("the CPU", "cpu", case.precision, 1, None, None, None)
    with FilledProducts() if case.filled else nullcontext():
        probe = run_probe(module, CPU, target, plan, None, (case.rows, case.length), steps=2)
    print(json.dumps(asdict(probe)), file=sys.stderr)
    assert probe.peak is not None
    return probe.peak


def in_a_process(args: argparse.Namespace, number: int) -> int:
    command = [sys.executable, __file__, args.model, "--folder", args.folder, "--measure", str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def row(case: Case, predicted: int, measured: int, seconds: float) -> str:
    shape = f"{case.rows} × {case.length}" + (" (filled)" if case.filled else "")
    start = f"{case.load_in} | {case.precision} | {'yes' if case.checkpointing else 'no'} | {shape}"
    figures = f"{predicted / 1e9:.2f} | {measured / 1e9:.2f} | {predicted / measured - 1:+.1%}"
    return f"| {start} | {figures} | {seconds:.0f} s |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CASES)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the 7B shape's weights are kept")
    parser.add_argument("--measure", type=int, help="used by the script itself: measure one case in this process")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the cases to run; by default, all")
    args = parser.parse_args()
    cases = CASES[args.model]
    if args.measure is not None:
        print(measure(base_of(args), cases[args.measure]))
        return 0
    if args.model == "7b":
        if why := too_small("7b", Path(base_of(args))):
            print(f"skipped: {why}")
            return 0
        from gpu import write_model

        write_model("7b", Path(base_of(args)))
    print("| weights | precision | checkpointing | rows × tokens | predicted GB | measured GB | difference | time |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    beyond = 0
    for number in range(len(cases)) if args.only is None else args.only:
        began = time.monotonic()
        predicted, measured = predict(base_of(args), cases[number]), in_a_process(args, number)
        print(row(cases[number], predicted, measured, time.monotonic() - began), flush=True)
        beyond += abs(predicted / measured - 1) > LIMIT
    print(f"{beyond} beyond {LIMIT:.0%}")
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
