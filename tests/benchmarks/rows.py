"""Measures the time and memory of the data module for ten thousand to a million rows.

    python tests/benchmarks/rows.py 10000 100000 1000000
    python tests/benchmarks/rows.py 1000000 --seconds 299
    python tests/benchmarks/rows.py 1000000 --ranks 4

Each size runs in its own process with its own caches. Rows are random words of the sample corpus. The exit status is 1 if
a size needs more memory or, with --seconds, more time than the limit. With --ranks, several connected ranks share the cache,
which rank 0 fills, and compare their rows, as `fit` does.
"""

import argparse
import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

GIGABYTES = 1.5


def write_rows(file: Path, count: int, shortest: int = 30, longest: int = 120) -> None:
    """Write rows of this many words, drawn at random from the sample corpus, so that no two are similar."""
    with Path("onion_lightning/data/sample/onion_sample.csv").open(newline="", encoding="utf-8") as stream:
        words = " ".join(row["Content"] for row in csv.DictReader(stream)).split()
    draw = random.Random(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Title", "Content"])
        for number in range(count):
            body = draw.choices(words, k=draw.randrange(shortest, longest))
            writer.writerow([f"{draw.choice(words)} {number}", f"{number} {' '.join(body)}"])


def measure(file: Path, seconds: float) -> list[str]:
    """Print one line of figures. Returns the limits that were exceeded."""
    import datasets

    from onion_lightning.data.module import OnionDataModule

    datasets.disable_progress_bars()
    began = time.perf_counter()
    make = partial(OnionDataModule, path=str(file), base_model="demo", max_length=256)
    make().prepare_data()
    first = time.perf_counter() - began
    data = make()  # the first one has kept what it read
    data.setup("test")
    second = time.perf_counter() - began - first
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows = f"{data.report.read:,} rows"
    print(
        f"{rows:>14}: {first:7.1f} s without a cache, {second:5.1f} s with one, {memory:.2f} GB peak memory", flush=True
    )
    exceeded = []
    if memory >= GIGABYTES:
        exceeded.append(f"{rows}: {memory:.2f} GB peak memory is not below {GIGABYTES} GB")
    if first > seconds:
        exceeded.append(f"{rows}: {first:.1f} s without a cache is more than {seconds:g} s")
    return exceeded


def measure_rank(rank: int, world: int, file: Path, folder: str) -> None:
    """Load and compare the rows as one of several ranks, and print the memory that it needs."""
    import datasets
    import torch.distributed as dist

    from onion_lightning.data.files.cache import shares_cache
    from onion_lightning.data.module import OnionDataModule
    from onion_lightning.ranks import agree

    datasets.disable_progress_bars()
    limit = timedelta(hours=2)  # rank 0 fills the cache meanwhile
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=limit)
    data = OnionDataModule(path=str(file), base_model="demo", max_length=256)
    data.shares_cache = shares_cache()
    began = time.perf_counter()
    data.fill_cache(rank == 0)
    dist.barrier()
    filled = time.perf_counter()
    data.setup("test")
    agree(data.identity(), "")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    seconds = (
        f"cache filled after {filled - began:.1f} s, rows loaded and compared in {time.perf_counter() - filled:.1f} s"
    )
    print(f"rank {rank} of {world}: {seconds}, {memory:.2f} GB peak memory", flush=True)
    dist.destroy_process_group()


def on_ranks(count: int, world: int) -> None:
    """Measure one size on several ranks."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        write_rows(Path(folder) / "rows.csv", count)
        torch.multiprocessing.spawn(measure_rank, (world, Path(folder) / "rows.csv", folder), nprocs=world)


def in_a_process(count: int, seconds: float) -> bool:
    """Measure one size. Returns whether it kept within the limits."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        write_rows(file, count)
        command = [sys.executable, __file__, str(count), "--file", str(file), "--seconds", str(seconds)]
        return subprocess.run(command, env=os.environ | {"HF_DATASETS_CACHE": folder}).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+", help="numbers of rows, such as 10000 1000000")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time limit for each size, without a cache")
    parser.add_argument("--file", type=Path, help="used by the script itself: measure one file in this process")
    parser.add_argument("--ranks", type=int, help="measure the memory of this number of ranks instead")
    options = parser.parse_args()
    if options.ranks is not None:
        for count in options.rows:
            on_ranks(count, options.ranks)
        return
    if options.file is not None:
        sys.exit("\n".join(measure(options.file, options.seconds)) or None)
    within = [in_a_process(count, options.seconds) for count in options.rows]
    sys.exit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
