"""Measures what the articles file costs beside generation: time for each headline, and memory, on one machine and on two.

    python tests/benchmarks/articles.py
    python tests/benchmarks/articles.py --headlines 1000000 --words 300

Each machine is a rank in a process of its own with a folder of its own, connected by gloo. Articles are random words of the
sample corpus, in batches of `--batch_size`. Memory is the growth of the process that grows most, from before `setup` to its
peak; the headlines and the numbers of their batches are not counted.
"""

import argparse
import csv
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from process_memory import peak_so_far, status

from onion_lightning.data.collate import HeadlineBatches
from onion_lightning.data.files.sources import SAMPLE
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.sampler import HeldOutSampler
from onion_lightning.model.articles.record import Article, ArticleBatch, article_batch
from onion_lightning.model.articles.writer import ArticleWriter
from onion_lightning.model.module import OnionModule
from onion_lightning.ranks import gather


class Clock:
    """Adds up the time inside the writer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, method: Any, *arguments: Any) -> None:
        began = time.perf_counter()
        method(*arguments)
        self.seconds[method.__name__] = self.seconds.get(method.__name__, 0) + time.perf_counter() - began


def batches(headlines: list[str], sampler: HeldOutSampler, words_each: int) -> Iterator[ArticleBatch]:
    with SAMPLE.open(newline="", encoding="utf-8") as stream:
        words = " ".join(row["Content"] for row in csv.DictReader(stream)).split()
    draw, rows = random.Random(0), HeadlineBatches(headlines)
    for micro in sampler:
        batch = rows[micro]
        texts = [" ".join(draw.choices(words, k=words_each)) for _ in batch["headlines"]]
        yield article_batch(batch, [[Article(text, words_each, "eos")] for text in texts])


def predict(rank: int, args: argparse.Namespace, count: int, ranks: int, folder: Path) -> None:
    """Write articles as a rank of `predict` does, with everything but the model."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    data, module = OnionDataModule(predict_batch_size=args.batch_size), OnionModule(seed=0)
    data.rows = [f"Area Man Declares War On Number {number}" for number in range(count)]
    trainer: Any = SimpleNamespace(global_rank=rank, local_rank=0, is_global_zero=rank == 0, datamodule=data)
    writer, clock = ArticleWriter(str(folder / str(rank) / "articles.jsonl")), Clock()
    sampler = HeldOutSampler([len(one) for one in data.rows], args.batch_size, ranks, rank)
    peak_so_far()
    before = status("VmRSS")
    clock(writer.setup, trainer, module, "predict")
    for batch in batches(data.rows, sampler, args.words):
        clock(writer.write_on_batch_end, trainer, module, batch)
    clock(writer.finish, trainer)
    memory = max(gather(status("VmHWM") - before))
    if rank == 0:
        figures = {"memory": memory, "size": writer.path.stat().st_size, **clock.seconds}
        (folder / "figures.json").write_text(json.dumps(figures))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headlines", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--words", type=int, default=200, help="words in an article")
    parser.add_argument("--batch_size", type=int, default=8)
    args = parser.parse_args()
    for ranks in args.machines:
        for count in args.headlines:
            with tempfile.TemporaryDirectory() as folder:
                torch.multiprocessing.spawn(predict, (args, count, ranks, Path(folder)), ranks)
                found = json.loads((Path(folder) / "figures.json").read_text())
            memory, size = found.pop("memory") / 1e6, found.pop("size") / 1e6
            times = ", ".join(f"{name} {seconds / count * 1e3:.3f}" for name, seconds in found.items())
            each = sum(found.values()) / count * 1e3
            about = f"{ranks} machine{'s' if ranks > 1 else ''}, {count:,} headlines ({size:.0f} MB)"
            print(f"{about}: {memory:.0f} MB, {each:.3f} ms a headline ({times})", flush=True)


if __name__ == "__main__":
    main()
