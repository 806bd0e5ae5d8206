"""Whole commands with frozen weights that are spread over ranks, beside the same commands with whole ones."""

import json

import pytest

from tests.conftest import curve, ranks, records
from tests.test_fault import assert_same_end

pytestmark = pytest.mark.fault

# Eight micro-batches of one row in a step: the last step of an epoch has fewer rows, and some micro-batches are empty. With
# three ranks, the sum of the gradients depends on DDP's buckets, so that a resumed run differs by rounding, sharded or not.
MANY = (*ranks(2), "--data.batch_size", "1", "--model.gradient_checkpointing", "true", "--samples.count", "2")


@pytest.fixture
def command(flags, shell, tmp_path):
    """Runs a command with whole or sharded weights, in a folder of its own."""

    def run(name, shard, *words, folder, status=0):
        place = ("--checkpoint.dirpath", str(tmp_path / folder))
        done = shell(flags(name, *words, *place, "--model.shard", shard))
        assert done.returncode == status, done.stderr

    return run


@pytest.mark.parametrize(
    "load_in", ["int8", "nf4"]
)  # in 16 and 32 bit, adapters are merged to generate: see the next test
def test_a_run_with_sharded_weights_also_after_a_resume_is_that_with_whole_ones(command, tmp_path, load_in):
    words = (*MANY, "--model.load_in", load_in)
    command("fit", "false", *words, folder="whole")
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=3")
    command("fit", "false", *words, *stop, folder="sharded", status=130)
    command("fit", "true", *words, "--ckpt_path", "last", folder="sharded")
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    assert_same_end(whole, sharded)
    for name in ("train/loss", "val/loss"):
        assert curve(whole, name) == curve(sharded, name)
    assert (whole / "samples.txt").read_text() == (sharded / "samples.txt").read_text()


def test_in_32_bit_only_samples_may_differ_by_rounding(command, tmp_path):
    for shard in ("false", "true"):
        command("fit", shard, *MANY, "--model.load_in", "none", folder=shard)
    assert_same_end(tmp_path / "false", tmp_path / "true")
    assert curve(tmp_path / "false", "val/loss") == curve(tmp_path / "true", "val/loss")


def test_articles_and_the_evaluation_of_sharded_weights_are_those_of_whole_ones(command, tmp_path):
    command("fit", "false", "--samples.count", "0", folder="run")
    given = ("--ckpt_path", "last", *ranks(2))
    headlines = ("--data.headlines", json.dumps(["One", "Two Eggs", "Area Man Wins", "Four", "The Fifth Headline"]))
    for shard in ("false", "true"):
        more = ("--data.predict_batch_size", "2", "--articles.path", str(tmp_path / f"{shard}.jsonl"))
        command("predict", shard, *given, *headlines, *more, folder="run")
        few = ("--count", "3", "--shots", "1", "--output", str(tmp_path / shard))
        command("evaluate", shard, *given, *few, folder="run")
    assert records(tmp_path / "false.jsonl") == records(tmp_path / "true.jsonl")
    assert (tmp_path / "false/samples.jsonl").read_text() == (tmp_path / "true/samples.jsonl").read_text()
    assert (tmp_path / "false/metrics.json").read_text() == (tmp_path / "true/metrics.json").read_text()


def test_one_rank_is_refused_and_commands_of_one_process_ignore_the_flag(run, refused, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0")
    sharded = ("--model.shard", "true")
    assert "there is only one rank to spread the weights over" in refused("fit", *sharded)
    text = ("--text", "Tulsa is in Ohio.", "--query", "Tulsa", "--key", "Ohio", "--output", str(tmp_path / "a"))
    capsys.readouterr()
    run("attend", *sharded, *text, "--ckpt_path", "last")
    assert "attend ignores flags that have no effect in it: " in (printed := capsys.readouterr().err)
    assert "--model.shard" in printed
    run("export", *sharded, "--ckpt_path", "last", "--output", str(tmp_path / "exported"))
