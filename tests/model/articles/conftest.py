"""Runs of `predict` on machines of their own: forked ranks connected by gloo, and articles that need no model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from onion_lightning.data.collate import HeadlineBatches
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.sampler import HeldOutSampler
from onion_lightning.model.articles.record import Article, article_batch
from onion_lightning.model.articles.writer import ArticleWriter
from onion_lightning.model.module import OnionModule

HEADLINES = [f"Headline {'Number ' * (i * 7 % 5)}{i} Wins" for i in range(15)]


@dataclass
class Job:
    """A run of `predict`.

    Attributes:
        folders: where each rank writes.
        local_ranks: number of each rank on its machine; by default, each rank is on a machine of its own.
        resume: as `--articles.resume`.
        name: the text of the articles.
        stop_after: batches that each rank writes before all ranks are gone; by default, the run ends.
        seeds: of each rank.
        late: a rank that is slower than the others.
        file: name of the articles file.
    """

    folders: Sequence[Path]
    local_ranks: Sequence[int] = ()
    resume: bool = False
    name: str = "first run"
    stop_after: int | None = None
    seeds: Sequence[int] = ()
    late: int | None = None
    file: str = "articles.jsonl"
    log: Path = field(default=Path(), init=False)

    def rank(self, rank: int) -> None:
        """Run a rank, as Lightning does."""
        count = len(self.folders)
        dist.init_process_group("gloo", init_method=f"file://{self.log}/store", rank=rank, world_size=count)
        try:
            self.predict(rank, count)
        except Exception as error:
            (self.log / f"{rank}.error").write_text(str(error))
            raise
        dist.destroy_process_group()

    def predict(self, rank: int, count: int) -> None:
        data = OnionDataModule(predict_batch_size=2)
        data.rows = HEADLINES
        module = OnionModule(seed=self.seeds[rank] if self.seeds else 1)
        local = self.local_ranks[rank] if self.local_ranks else 0
        trainer: Any = SimpleNamespace(
            global_rank=rank, local_rank=local, is_global_zero=rank == 0, world_size=count, datamodule=data
        )
        writer = ArticleWriter(str(self.folders[rank] / self.file), self.resume)
        writer.setup(trainer, module, "predict")
        lengths = list(map(len, HEADLINES))
        for number, micro in enumerate(HeldOutSampler(lengths, 2, count, rank, data.done_batches)):
            if number == self.stop_after:
                return
            if rank == self.late:
                time.sleep(0.2)
            batch = HeadlineBatches(HEADLINES)[micro]
            articles = [[Article(f"{self.name}: {text}", 3, "eos")] for text in batch["headlines"]]
            writer.write_on_batch_end(trainer, module, article_batch(batch, articles))
        if self.stop_after is None:
            writer.finish(trainer)


@pytest.fixture
def predict(tmp_path_factory):
    """Returns a function that runs a job, and returns the error of each rank."""

    def run(*args, **kwargs):
        job = Job(*args, **kwargs)
        job.log = tmp_path_factory.mktemp("job")
        for folder in job.folders:
            folder.parent.mkdir(parents=True, exist_ok=True)
        context = torch.multiprocessing.start_processes(
            job.rank, nprocs=len(job.folders), join=False, start_method="fork"
        )
        for process in context.processes:
            process.join(60)
            assert process.exitcode is not None, "a rank hangs"
        return {int(file.stem): file.read_text() for file in sorted(job.log.glob("*.error"))}

    return run
