"""Compares `fit` on two ranks with one thread each with one rank with one thread: speed, and the bytes that are exchanged.

    python tests/benchmarks/ranks.py
    python tests/benchmarks/ranks.py --articles 16 --rounds 1

The demo model as in configs/cpu.yaml, on a part of the sample corpus, gloo. Both have the same optimizer steps of 8 rows in
micro-batches of 4. Speed is tokens per second without padding, from the first batch to the end of the last step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from clocked import write_rows
from contenders import Figures, Ratio, main
from train import encode, sample_texts

ROOT = Path(__file__).parent.parent.parent
ROWS = 8


def fit(folder: Path, corpus: Path, ranks: int) -> dict[str, float]:
    """Run `fit` on this number of ranks with one thread each, and return what `Traffic` has counted on rank 0."""
    counted = folder / "traffic.json"
    flags = {
        "--config": "configs/cpu.yaml",
        "--data.path": corpus,
        "--data.val_fraction": 0,
        "--data.test_fraction": 0,
        "--data.max_length": 512,
        "--data.batch_size": ROWS // 2,
        "--data.global_batch_size": ROWS,
        "--checkpoint.dirpath": folder / "run",
        "--trainer.devices": ranks,
        "--trainer.strategy": "ddp" if ranks > 1 else "auto",
        "--trainer.limit_train_batches": 1.0,
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
        "--trainer.callbacks+": "tests.benchmarks.traffic.Traffic",
        "--trainer.callbacks.path": counted,
    }
    line = [sys.executable, "-m", "onion_lightning", "fit", *(str(word) for pair in flags.items() for word in pair)]
    done = subprocess.run(
        line, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(counted.read_text())
    return found


def train(args: argparse.Namespace, ranks: int) -> Figures:
    rows = sample_texts()[0][: args.articles]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.csv"
        write_rows(corpus, [(row["headline"], row["article"]) for row in rows])
        found = fit(Path(folder), corpus, ranks)
    return {
        "tokens/s": sum(len(one.input_ids) for one in encode(rows)) / found["seconds"],
        "gradient bytes per step": found["gradients"] / found["steps"],
        "bytes per step": (found["gradients"] + found["other"]) / found["steps"],
        "bytes of the adapters": 4 * found["adapters"],
    }


CONTENDERS = {"one rank": lambda args: train(args, 1), "two ranks": lambda args: train(args, 2)}
RATIOS = [
    Ratio("tokens/s", "two ranks", "one rank", 1.85),
    Ratio("bytes of the adapters", "two ranks", "two ranks", 1.01, "at most", over_figure="bytes per step"),
]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, default=64, help="length of the epoch")
    return parser


if __name__ == "__main__":
    sys.exit(main(arguments(), CONTENDERS, RATIOS))
