"""Runs the contenders of a benchmark side by side, and compares them: A B A B ..., each in a process of its own.

A script gives `main` its contenders, functions that measure something and return figures by name, and the ratios to compute
from them. The ratios are those of one round, so that a machine whose speed drifts affects both of their sides; the median
over the rounds counts. Prints two Markdown tables; the exit status is 1 if a median misses its target.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

__all__ = ["Figures", "Ratio", "machine", "main", "measure", "say"]

Figures = dict[str, float]
Contender = Callable[[argparse.Namespace], Figures]
CPU_FLAGS = ("avx2", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


class Ratio(NamedTuple):
    """A figure of one contender, divided by that of another in the same round.

    Attributes:
        figure: name of the figure.
        over: contender whose figure is divided.
        under: contender whose figure it is divided by.
        target: of the median.
        kind: whether the median must be at least or at most the target, or within this distance of 1.
        over_figure: name of the figure of `over`, if it has another.
    """

    figure: str
    over: str
    under: str
    target: float
    kind: str = "at least"
    over_figure: str | None = None

    def met(self, median: float) -> bool:
        if self.kind == "within":
            return abs(median - 1) <= self.target
        return median >= self.target if self.kind == "at least" else median <= self.target


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """Return the date, the CPU with its instruction sets that matter here, and the versions of the libraries."""
    cpu = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", cpu)
    known = set(cpu.split())
    flags = ", ".join(flag for flag in CPU_FLAGS if flag in known) or "none of " + ", ".join(CPU_FLAGS)
    packages = ", ".join(f"{one} {version(one)}" for one in ("torch", "transformers", "peft", "bitsandbytes"))
    cores = len(os.sched_getaffinity(0))
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores of {name[1] if name else platform.processor()} ({flags}), {packages}"


def measure(contender: str, arguments: Sequence[str]) -> Figures:
    """Run one contender in a process of its own: this script again, with `--contender`."""
    command = [sys.executable, sys.argv[0], *arguments, "--contender", contender]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}{contender} failed with exit status {done.returncode}: {' '.join(command)}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def figure_table(rounds: Sequence[Mapping[str, Figures]]) -> list[str]:
    """Return a row for each contender: the median of each figure, with its smallest and largest value."""
    names = list(dict.fromkeys(name for figures in rounds[0].values() for name in figures))
    lines = [f"| contender | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for contender, figures in rounds[0].items():
        cells = [spread([one[contender][name] for one in rounds]) if name in figures else "" for name in names]
        lines.append(f"| {contender} | {' | '.join(cells)} |")
    return lines


def ratio_table(rounds: Sequence[Mapping[str, Figures]], ratios: Sequence[Ratio]) -> tuple[list[str], list[str]]:
    """Return a row for each ratio whose contenders have run, and a line for each median that misses its target."""
    known = [one for one in ratios if {one.over, one.under} <= rounds[0].keys()]
    lines = ["", "| ratio | median (range) | target | |", "| --- | ---: | --- | --- |"] if known else []
    missed = []
    for one in known:
        values = [found[one.over][one.over_figure or one.figure] / found[one.under][one.figure] for found in rounds]
        target = f"within {one.target:.0%} of 1" if one.kind == "within" else f"{one.kind} {one.target:g}"
        met, name = one.met(statistics.median(values)), f"{one.over_figure or one.figure}: {one.over} / {one.under}"
        lines.append(f"| {name} | {spread(values)} | {target} | {'met' if met else '**missed**'} |")
        missed += [] if met else [f"{name} is {statistics.median(values):.3f}, target {target}"]
    return lines, missed


def spread(values: Sequence[float]) -> str:
    median = f"{statistics.median(values):,.4g}"
    return median if len(values) == 1 else f"{median} ({min(values):,.4g} to {max(values):,.4g})"


def main(
    parser: argparse.ArgumentParser,
    contenders: Mapping[str, Contender],
    ratios: Sequence[Ratio],
    *notes: str,
    prepare: Callable[[argparse.Namespace], None] = lambda args: None,
    finish: Callable[[argparse.Namespace, list[dict[str, Figures]]], None] = lambda args, rounds: None,
) -> int:
    """Parse the command line, run the contenders in rounds, print the tables, and return the exit status.

    Args:
        parser: with the script's own flags.
        contenders: functions of the parsed flags that measure one contender in this process.
        ratios: to compute in each round.
        notes: what a reader of the tables must know.
        prepare: runs once, before the first contender.
        finish: runs once, with the figures of each contender in each round.
    """
    parser.add_argument("--rounds", type=int, default=2, help="how often each contender runs")
    parser.add_argument("--only", nargs="+", choices=contenders, help="contenders to run; by default, all")
    parser.add_argument("--contender", choices=contenders, help=argparse.SUPPRESS)  # measure it in this process
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(contenders[args.contender](args)))
        return 0
    prepare(args)
    rounds: list[dict[str, Figures]] = []
    for number in range(args.rounds):
        rounds.append({})
        for name in args.only or contenders:
            rounds[-1][name] = measure(name, sys.argv[1:])
            say(f"round {number + 1} of {args.rounds}: {name}: {rounds[-1][name]}")
    lines, missed = ratio_table(rounds, ratios)
    print("\n".join([machine(), *notes, f"`python {shlex.join(sys.argv)}`", "", *figure_table(rounds), *lines]))
    say("".join(f"below target: {line}\n" for line in missed) or "no figure is below its target")
    finish(args, rounds)
    return 1 if missed else 0
