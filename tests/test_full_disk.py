"""Every file that a command writes, on a disk that is full: one sentence that names the flag, and nothing else is lost."""

import contextlib
import json
import os
import subprocess

import datasets
import pytest

from tests.conftest import records

pytestmark = pytest.mark.fault

FEW = ("--trainer.limit_val_batches", "0", "--samples.count", "0", "--trainer.max_epochs", "4")


@pytest.fixture
def disk(tmp_path):
    """Returns a function that mounts a small file system at a path."""
    with contextlib.ExitStack() as mounted:

        def mount(path, size="2m"):
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
            mounted.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
            return path

        yield mount


def fill(path):
    room = os.statvfs(path)
    with contextlib.suppress(OSError), (path / "ballast").open("ab", buffering=0) as stream:
        stream.write(b"x" * (room.f_bavail * room.f_frsize))


class Fills:
    """Fills a disk when a method of a class is called for the n-th time."""

    def __init__(self, monkeypatch, cls, method, path, call=1):
        self.calls = 0
        real = getattr(cls, method)

        def filling(this, *args, **kwargs):
            self.calls += 1
            if self.calls == call:
                fill(path)
            return real(this, *args, **kwargs)

        monkeypatch.setattr(cls, method, filling)


def test_the_metrics_of_a_run(run, refused, disk, tmp_path, monkeypatch):
    from onion_lightning.training.metrics_csv import MetricsCSV

    folder = disk(tmp_path / "run")
    run("fit", *FEW, "--trainer.max_steps", "2")
    with monkeypatch.context() as patch:
        Fills(patch, MetricsCSV, "append", folder)
        sentence = refused("fit", *FEW, "--ckpt_path", "last")
    assert sentence.startswith(f"error: --checkpoint.dirpath {folder}: ")
    assert "No space left on device" in sentence
    (folder / "ballast").unlink()
    run("fit", *FEW, "--ckpt_path", "last", "--trainer.max_steps", "8")
    steps = [int(line.split(",")[0]) for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps)) == list(range(8))


def test_the_samples_of_a_run(refused, disk, tmp_path, monkeypatch):
    from onion_lightning.training.samples import Samples

    folder = disk(tmp_path / "run")
    Fills(monkeypatch, Samples, "on_validation_end", folder)
    assert f"--checkpoint.dirpath {folder}: " in refused("fit", "--trainer.max_epochs", "1")


@pytest.mark.parametrize(
    ("place", "method"),
    [("cli.parsing.parser.SaveConfig", "save_config"), ("training.corpus_table.CorpusTable", "on_fit_start")],
)
def test_what_is_written_before_the_first_step(refused, disk, tmp_path, monkeypatch, place, method):
    module, _, name = place.rpartition(".")
    cls = getattr(__import__(f"onion_lightning.{module}", fromlist=[name]), name)
    folder = disk(tmp_path / "run")
    Fills(monkeypatch, cls, method, folder)
    sentence = refused("fit", *FEW)
    assert f"--checkpoint.dirpath {folder}: " in sentence
    assert "cannot be written (No space left on device)" in sentence


@pytest.mark.filterwarnings("ignore:.*Total length of `DataLoader` across ranks is zero")
@pytest.mark.parametrize("method", ["write_on_batch_end", "merge"])
def test_articles(run, refused, disk, tmp_path, monkeypatch, method):
    from onion_lightning.model.articles.writer import ArticleWriter

    headlines = ("--data.headlines", json.dumps([f"Egg {i} Wins" for i in range(40)]), "--data.batch_size", "2")
    run("predict", *headlines, "--articles.path", str(tmp_path / "whole.jsonl"))
    folder = disk(tmp_path / "small", "64k")
    path = ("--articles.path", str(folder / "articles.jsonl"))
    with monkeypatch.context() as patch:
        Fills(patch, ArticleWriter, method, folder, 3 if method == "write_on_batch_end" else 1)
        sentence = refused("predict", *headlines, *path)
    assert f"--articles.path {folder / 'articles.jsonl'}: cannot be written (No space left on device)" in sentence
    assert "--articles.resume true" in sentence
    (folder / "ballast").unlink()
    run("predict", *headlines, *path, "--articles.resume", "true")
    assert records(folder / "articles.jsonl") == records(tmp_path / "whole.jsonl")


def test_the_results_of_evaluate_attend_and_export(run, refused, disk, tmp_path):
    run("fit", *FEW, "--trainer.max_steps", "2")
    folder = disk(tmp_path / "out", "8k")
    fill(folder)
    few = ("--count", "2", "--shots", "0", "--model.max_new_tokens", "4")
    text = ("--text", "The University of California said that San Francisco is full of eggs.")
    phrases = ("--query", "San Francisco", "--key", "University of California")
    for words in (("evaluate", *few), ("attend", *text, *phrases), ("export",)):
        sentence = refused(*words, "--ckpt_path", "last", "--output", str(folder / "results"))
        assert f"--output {folder / 'results'}: cannot be written (No space left on device)" in sentence
        assert not (folder / "results").exists() or not list((folder / "results").iterdir())


def test_the_cache_of_the_corpus(refused, disk, tmp_path, monkeypatch):
    cache = disk(tmp_path / "cache", "64k")
    fill(cache)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    assert f"HF_DATASETS_CACHE {cache}: has no space left for the tokenized corpus" in refused("fit", *FEW)


def test_wandb_does_not_stop_a_run(flags, shell, disk, tmp_path):
    folder = disk(tmp_path / "wandb", "64k")
    fill(folder)
    logger = {"class_path": "WandbLogger", "init_args": {"save_dir": str(folder), "offline": True}}
    done = shell(flags("fit", *FEW, "--trainer.max_steps", "2", "--trainer.logger", json.dumps(logger)))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Done: step 2" in done.stderr
    assert (tmp_path / "run" / "last.ckpt").exists()
