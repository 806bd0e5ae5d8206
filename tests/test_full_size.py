"""Llama-2 with random weights, in 8 bit on the CPU: `fit` trains, resumes and predicts; `export` and `verify`.

The shape of 7B on one rank, and that of 13B, of which two copies would not fit this memory, shared by two ranks.
`ONION_FULL_SIZE_FOLDER` keeps the weights (13.5 and 26 GB) for the next time; `ONION_FULL_SIZE_SHAPE=tiny` tries the tests.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onion_lightning.model.base_model import best_precision
from onion_lightning.planning.memory import predict_memory
from onion_lightning.planning.report.probe import LIBRARIES
from onion_lightning.pretrained.locate import load_config
from tests.conftest import ROOT, curve, records
from tests.tiny import sample_rows

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]

ONLY = os.environ.get("ONION_FULL_SIZE_SHAPE")
LENGTH = 128  # tokens per article


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """Writes random weights in a process that ends, which frees its memory; returns their directory."""
    folder = os.environ.get("ONION_FULL_SIZE_FOLDER") or str(tmp_path_factory.mktemp("full_size"))
    script = ROOT / "tests" / "benchmarks" / "full_size.py"

    def run(shape):
        line = [sys.executable, script, "--write", "--shape", ONLY or shape, "--folder", folder]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if done.stderr.startswith("skipped: "):
            pytest.skip(done.stderr.removeprefix("skipped: ").strip())
        return Path(folder) / f"random-{ONLY or shape}"

    return run


@pytest.fixture
def command(tmp_path):
    """Return a function that runs a command on a model in a process of its own, with all cores."""
    corpus = tmp_path / "corpus.csv"
    with corpus.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "article"])
        writer.writerows([row["Title"], row["Content"]] for row in sample_rows()[:6])
    shared = ["--model.gradient_checkpointing", "true"]
    shared += ["--data.path", str(corpus), "--data.max_length", str(LENGTH), "--data.val_fraction", "0"]
    shared += ["--checkpoint.dirpath", str(tmp_path / "run")]
    training = ["--model.learning_rate", "0.01", "--data.test_fraction", "0"]
    training += ["--data.batch_size", "1", "--data.global_batch_size", "1", "--checkpoint.every_n_train_steps", "1"]
    training += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.logger", "false"]
    training += ["--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]

    def run(base, name, *words):
        flags = ["--model.base_model", str(base), *shared]
        flags += training if name in ("fit", "predict") else ["--data.test_fraction", "0.7"]
        line = [sys.executable, "-m", "onion_lightning", name, *flags, *words]
        all_cores = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = subprocess.run(line, env=all_cores, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def test_the_full_size_trains_resumes_predicts_and_is_the_same_model_elsewhere(write, command, tmp_path):
    base = write("7b")
    command(base, "fit", "--trainer.max_steps", "2")
    before = curve(tmp_path / "run")
    assert len(before) == 2
    command(base, "fit", "--trainer.max_steps", "3", "--ckpt_path", "last")
    after = curve(tmp_path / "run")
    assert len(after) == 3
    assert before.items() <= after.items()
    articles = tmp_path / "articles.jsonl"
    words = ("--data.headlines", "Area Man Declares War On Tuesday", "--articles.path", str(articles))
    command(base, "predict", "--ckpt_path", "last", *words, "--model.max_new_tokens", "4")
    [article] = records(articles)
    assert 0 < article["tokens"] <= 4
    exported = tmp_path / "exported"
    words = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    command(base, "export", *words, "--output", str(exported), "--merge", "true")
    command(base, "verify", *words, "--path", str(exported), "--count", "2", "--model.max_new_tokens", "4")
    forms = json.loads((exported / "verify.json").read_text())["forms"]
    assert [(form["form"], form["stage"]) for form in forms] == [("adapters", None), ("merged", None)]


def check_memory(base, folder):
    """The memory of each rank, while it loads and while it trains, is that of the plan."""
    flags = {
        "load_in": "int8",
        "precision": best_precision(torch.device("cpu")),
        "lora_rank": 8,
        "ranks": 2,
        "shares": 2,
    }
    flags |= {"target_modules": ["q_proj", "v_proj"], "gradient_checkpointing": True, "rows": 1, "length": LENGTH}
    plan = predict_memory(load_config(str(base)), device_type="cpu", **flags)
    peak = plan.total + LIBRARIES
    for rank in range(2):
        found = json.loads((folder / f"memory.json.{rank}").read_text())
        words = (
            f"{name} {value / 1e9:.2f} GB" for name, value in {**found, "plan": peak, "weights": plan.weights}.items()
        )
        print(f"rank {rank}:", *words)
        if ONLY != "tiny":  # most of that would be the libraries
            assert found["training"] == pytest.approx(peak, rel=0.1)
            assert found["loading"] <= 1.1 * peak


def test_two_ranks_share_a_model_of_which_two_copies_would_not_fit(write, command, tmp_path):
    base = write("13b")
    shared = ("--trainer.devices", "2", "--model.shard", "true", "--data.global_batch_size", "2")
    watch = (
        "--trainer.callbacks+=tests.memory_watch.MemoryWatch",
        f"--trainer.callbacks.file={tmp_path / 'memory.json'}",
    )
    command(base, "fit", *shared, *watch, "--trainer.max_steps", "2")
    before = curve(tmp_path / "run")
    assert len(before) == 2
    check_memory(base, tmp_path)
    command(base, "fit", *shared, "--trainer.max_steps", "3", "--ckpt_path", "last")
    after = curve(tmp_path / "run")
    assert len(after) == 3
    assert before.items() <= after.items()
    articles = tmp_path / "articles.jsonl"
    words = ("--data.headlines", "Area Man Declares War On Tuesday", "--articles.path", str(articles))
    command(base, "predict", *shared[:4], "--ckpt_path", "last", *words, "--model.max_new_tokens", "4")
    [article] = records(articles)
    assert 0 < article["tokens"] <= 4
