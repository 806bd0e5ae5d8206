"""Llama-2 7B's shape with random weights, in 8 bit on the CPU: `fit` trains, resumes and predicts; `export` and `verify`.

`ONION_FULL_SIZE_FOLDER` keeps the weights (13.5 GB) for the next time; `ONION_FULL_SIZE_SHAPE=tiny` tries the test itself.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, curve, records, sample_rows

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]

SHAPE = os.environ.get("ONION_FULL_SIZE_SHAPE", "7b")
LENGTH = 128  # tokens per article


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Return the directory of random weights; they are written by a process that ends, which frees its memory."""
    folder = os.environ.get("ONION_FULL_SIZE_FOLDER") or str(tmp_path_factory.mktemp("full_size"))
    script = ROOT / "tests" / "benchmarks" / "full_size.py"
    line = [sys.executable, script, "--write", "--shape", SHAPE, "--folder", folder]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stderr.startswith("skipped: "):
        pytest.skip(done.stderr.removeprefix("skipped: ").strip())
    return Path(folder) / f"random-{SHAPE}"


@pytest.fixture
def command(base, tmp_path):
    """Return a function that runs a command on the model in a process of its own, with all cores."""
    corpus = tmp_path / "corpus.csv"
    with corpus.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "article"])
        writer.writerows([row["Title"], row["Content"]] for row in sample_rows()[:4])
    shared = ["--model.base_model", str(base), "--model.gradient_checkpointing", "true"]
    shared += ["--data.path", str(corpus), "--data.max_length", str(LENGTH), "--data.val_fraction", "0"]
    shared += ["--checkpoint.dirpath", str(tmp_path / "run")]
    training = ["--model.learning_rate", "0.01", "--data.test_fraction", "0"]
    training += ["--data.batch_size", "1", "--data.global_batch_size", "1", "--checkpoint.every_n_train_steps", "1"]
    training += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.logger", "false"]
    training += ["--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]

    def run(name, *words):
        flags = shared + (training if name in ("fit", "predict") else ["--data.test_fraction", "0.7"])
        line = [sys.executable, "-m", "onion_lightning", name, *flags, *words]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def test_the_full_size_trains_resumes_predicts_and_is_the_same_model_elsewhere(command, tmp_path):
    command("fit", "--trainer.max_steps", "2")
    before = curve(tmp_path / "run")
    assert len(before) == 2
    command("fit", "--trainer.max_steps", "3", "--ckpt_path", "last")
    after = curve(tmp_path / "run")
    assert len(after) == 3
    assert before.items() <= after.items()
    articles = tmp_path / "articles.jsonl"
    words = ("--data.headlines", "Area Man Declares War On Tuesday", "--articles.path", str(articles))
    command("predict", "--ckpt_path", "last", *words, "--model.max_new_tokens", "4")
    [article] = records(articles)
    assert 0 < article["tokens"] <= 4
    exported = tmp_path / "exported"
    words = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    command("export", *words, "--output", str(exported), "--merge", "true")
    command("verify", *words, "--path", str(exported), "--count", "2", "--model.max_new_tokens", "4")
    forms = json.loads((exported / "verify.json").read_text())["forms"]
    assert [(form["form"], form["stage"]) for form in forms] == [("adapters", None), ("merged", None)]
