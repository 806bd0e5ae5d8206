"""Measures how time grows: that of a training step with the rows' length, and that of preparing data with their number.

    python tests/benchmarks/growth.py --output growth.svg
    python tests/benchmarks/growth.py --largest --output growth.png

The demo model in 8 bit, steps of 2,048 tokens in rows of 128 to 2,048 tokens each, so that only the length of the rows
differs; the median of all steps but the first counts. Preparing is reading, cleaning, splitting and tokenizing 1,000 to
100,000 rows (--largest: to a million) without a cache. Draws both into --output.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import datasets
from clocked import fit, long_rows
from contenders import Figures, main
from rows import write_rows

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.module import OnionModule

TOKENS = 2048  # per step
LENGTHS = (128, 256, 512, 1024, 2048)
COUNTS = (1_000, 10_000, 100_000)
LARGEST = 1_000_000
STEP, PREPARING = "training, µs per token", "preparing, µs per token"


def training(args: argparse.Namespace, length: int) -> Figures:
    rows = TOKENS // length
    clock = fit(OnionModule("demo", "int8", seed=0), long_rows(rows * (args.steps + 1), length), length, rows)
    return {"tokens per row": length, STEP: statistics.median(clock.seconds[1:]) / TOKENS * 1e6}


def preparing(args: argparse.Namespace, count: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        write_rows(file, count)
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        datasets.disable_progress_bars()
        data = OnionDataModule(path=str(file), base_model="demo", max_length=256)
        began = time.perf_counter()
        report = data.encode().report
        seconds = time.perf_counter() - began
    return {"rows": count, "seconds": seconds, PREPARING: seconds / (report.kept * report.tokens.mean) * 1e6}


def draw(args: argparse.Namespace, rounds: Sequence[dict[str, Figures]]) -> None:
    """Draw the medians, with the range over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, x, y in zip(axes, ("tokens per row", "rows"), (STEP, PREPARING), strict=True):
        names = [name for name, figures in rounds[0].items() if y in figures]
        if not names:
            axis.remove()
            continue
        values = [[one[name][y] for one in rounds] for name in names]
        positions = [rounds[0][name][x] for name in names]
        axis.plot(positions, [statistics.median(one) for one in values], "o-")
        axis.fill_between(positions, [min(one) for one in values], [max(one) for one in values], alpha=0.2)
        axis.set(xscale="log", xlabel=x, ylabel=y, ylim=(0, None))
        axis.set_xticks(positions, [f"{one:,}" for one in positions])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    pyplot.savefig(args.output)


CONTENDERS = {f"{one:,} tokens": lambda args, one=one: training(args, one) for one in LENGTHS}
PREPARED = COUNTS + ((LARGEST,) if "--largest" in sys.argv else ())
CONTENDERS |= {f"{one:,} rows": lambda args, one=one: preparing(args, one) for one in PREPARED}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="growth.svg", help="PNG or SVG file")
    parser.add_argument("--steps", type=int, default=3, help="steps that count")
    parser.add_argument("--largest", action="store_true", help="prepare a million rows as well")
    return parser


if __name__ == "__main__":
    sys.exit(main(arguments(), CONTENDERS, [], finish=draw))
