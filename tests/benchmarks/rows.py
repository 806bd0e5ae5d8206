"""Measures the time and memory of the data module for ten thousand to a million rows.

    python tests/benchmarks/rows.py 10000 100000 1000000

Each size runs in its own process with its own caches. Rows are random excerpts of the sample corpus.
"""

import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_rows(file: Path, count: int) -> None:
    with Path("onion_lightning/data/sample/onion_sample.csv").open(newline="", encoding="utf-8") as stream:
        words = " ".join(row["Content"] for row in csv.DictReader(stream)).split()
    draw = random.Random(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Title", "Content"])
        for number in range(count):
            at = draw.randrange(len(words) - 200)
            body = words[at : at + draw.randrange(30, 120)]
            writer.writerow([f"{words[at + 50]} {number}", f"{number} {' '.join(body)}"])


def measure(file: Path) -> None:
    import datasets

    from onion_lightning.data.module import OnionDataModule

    datasets.disable_progress_bars()
    began = time.perf_counter()
    data = OnionDataModule(path=str(file), base_model="demo", max_length=256)
    data.prepare_data()
    first = time.perf_counter() - began
    data.setup("test")
    second = time.perf_counter() - began - first
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{data.report.read:>9,} rows: {first:7.1f} s without a cache, {second:5.1f} s with one, {memory:.2f} GB peak memory"
    )


def main() -> None:
    if sys.argv[1] == "--file":
        measure(Path(sys.argv[2]))
        return
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.csv"
            write_rows(file, count)
            environment = os.environ | {"HF_DATASETS_CACHE": folder}
            subprocess.run([sys.executable, __file__, "--file", str(file)], env=environment, check=True)


if __name__ == "__main__":
    main()
