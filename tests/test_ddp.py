"""Several ranks on the CPU with gloo, each a process, with an 8-bit base."""

import csv
import os
import re
import socket
import subprocess
import sys

import pytest
import torch

from tests.conftest import adapters, curve, ranks, records
from tests.warm import start_command

HEADLINES = '["Egg Wins", "A Longer Headline Of Many Words", "Third", "Fourth One Here", "Fifth"]'


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def test_two_ranks_train_and_validate_like_one(run, flags, shell, tmp_path):
    exact = ("--model.load_in", "none", "--model.lora_dropout", "0", "--trainer.max_steps", "10")
    run("fit", *exact, "--data.batch_size", "8")
    done = shell(
        flags("fit", *exact, *ranks(2), "--data.batch_size", "2", "--checkpoint.dirpath", str(tmp_path / "two"))
    )
    assert done.returncode == 0, done.stderr
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "run"), rel=1e-4)
    assert curve(tmp_path / "two", "val/loss") == pytest.approx(curve(tmp_path / "run", "val/loss"), rel=1e-4)
    for name, value in adapters(tmp_path / "run" / "last.ckpt").items():
        torch.testing.assert_close(adapters(tmp_path / "two" / "last.ckpt")[name], value, atol=5e-5, rtol=1e-3)
    assert done.stderr.count("Done: step 10") == 1


@pytest.mark.parametrize("count", [2, *(pytest.param(n, marks=pytest.mark.fault) for n in (3, 8))])
def test_any_number_of_ranks_validates_and_predicts_the_same_in_8_bit(run, flags, shell, tmp_path, count):
    run("fit", "--trainer.max_epochs", "1")
    validation = curve(tmp_path / "run", "val/loss").popitem()[1]
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    more = ("--data.headlines", HEADLINES, "--model.temperature", "0", "--data.predict_batch_size", "2")
    run("predict", *checkpoint, *more)
    alone = records(tmp_path / "articles.jsonl")
    done = shell(flags("predict", *checkpoint, *more, *ranks(count)))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "articles.jsonl") == alone
    done = shell(flags("validate", *checkpoint, *ranks(count)))
    found = float(re.search(r"val/loss\W+([\d.]+)", done.stdout)[1])
    assert found == pytest.approx(validation, abs=1e-5)


@pytest.mark.fault
def test_more_ranks_than_headlines_works(flags, shell, tmp_path):
    done = shell(flags("predict", "--data.headlines", '["Egg Wins"]', *ranks(3)))
    assert done.returncode == 0, done.stderr
    assert [record["index"] for record in records(tmp_path / "articles.jsonl")] == [0]


def test_torchrun_runs_the_command(flags, tmp_path):
    words = flags("fit", "--trainer.max_steps", "2", *ranks(2))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "onion_lightning", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        assert len([row for row in csv.DictReader(stream) if row["train/loss"]]) == 2


@pytest.mark.fault
def test_bad_input_under_ddp_is_reported_once(flags, shell):
    done = shell(flags("fit", "--data.path", "nowhere.csv", *ranks(2)))
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1


@pytest.fixture
def two_nodes(flags, tmp_path):
    """Returns a function that runs a command on two nodes with one rank each, as Lightning starts them from its variables.

    It takes the flags of each node, and returns exit status and standard error of each.
    """

    def run(*words_of_nodes):
        port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        layout = ("--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp")
        logs = [tmp_path / f"log of node {node}" for node in range(len(words_of_nodes))]
        processes = []
        for node, words in enumerate(words_of_nodes):
            with logs[node].open("w") as log:
                environment = os.environ | port | {"NODE_RANK": str(node)}
                streams = (log.fileno(), log.fileno())
                processes.append(start_command(flags(*words, *layout), environment, *streams))
        for process in processes:
            process.join(240)
        return [(log.read_text(), process.exitcode) for log, process in zip(logs, processes, strict=True)]

    return run


def predict_words(folder, *more, name="articles.jsonl"):
    words = ("--data.headlines", HEADLINES, "--data.predict_batch_size", "2")
    return ("predict", *words, "--articles.path", str(folder / name), *more)


@pytest.mark.parametrize("name", ["articles.jsonl", "articles.csv"])
def test_predict_on_two_machines_with_folders_of_their_own_writes_the_file_on_one(run, two_nodes, tmp_path, name):
    run(*predict_words(tmp_path, name=name))
    a, b = tmp_path / "a", tmp_path / "b"
    ended = two_nodes(predict_words(a, name=name), predict_words(b, name=name))
    assert [status for _, status in ended] == [0, 0], ended
    assert (a / name).read_bytes() == (tmp_path / name).read_bytes()
    assert [*a.iterdir(), *b.iterdir()] == [a / name]


@pytest.mark.fault
def test_machines_that_failed_to_merge_resume_in_another_order_without_any_batch_left(run, two_nodes, tmp_path):
    run(*predict_words(tmp_path))
    a, b = tmp_path / "a", tmp_path / "b"
    (a / ".articles.jsonl.all").mkdir(parents=True)
    ended = two_nodes(predict_words(a), predict_words(b))
    assert [status for _, status in ended] == [1, 1], ended
    for text, _ in ended:  # each machine has an output of its own
        assert text.count("error: ") == 1
        assert "cannot be written (Is a directory)" in text
    ended = two_nodes(*(predict_words(folder, "--articles.resume", "true") for folder in (b, a)))
    assert [status for _, status in ended] == [0, 0], ended
    assert (b / "articles.jsonl").read_bytes() == (tmp_path / "articles.jsonl").read_bytes()
    assert [*a.iterdir(), *b.iterdir()] == [a / ".articles.jsonl.all", b / "articles.jsonl"]
