"""Whole commands with frozen weights that are spread over ranks, beside the same commands with whole ones."""

import json
import shutil
import signal

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from onion_lightning.training.checkpoint_io import read_checkpoint
from tests.conftest import curve, ranks, records
from tests.planning.test_out_of_memory import run_out
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
        return done.stdout

    return run


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
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


@pytest.mark.parametrize("load_in", ["int8", "none"])
def test_articles_and_the_evaluation_of_sharded_weights_are_those_of_whole_ones(command, tmp_path, load_in):
    command("fit", "false", "--model.load_in", load_in, "--samples.count", "0", folder="run")
    given = ("--ckpt_path", "last", *ranks(2))
    headlines = ("--data.headlines", json.dumps(["One", "Two Eggs", "Area Man Wins", "Four", "The Fifth Headline"]))
    validated = [
        command("validate", shard, *given, "--data.batch_size", "1", folder="run") for shard in ("false", "true")
    ]
    assert "val/loss" in validated[0]
    assert validated[0] == validated[1]
    for shard in ("false", "true"):
        more = ("--data.predict_batch_size", "2", "--articles.path", str(tmp_path / f"{shard}.jsonl"))
        more += ("--model.best_of", "3", "--articles.keep_all", "true")
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
    text = ("--text", "Tulsa is in Ohio.", "--query", "Ohio", "--key", "Tulsa", "--output", str(tmp_path / "a"))
    capsys.readouterr()
    run("attend", *sharded, *text, "--ckpt_path", "last")
    assert "--model.shard true: this command runs in one process, which loads all weights" in capsys.readouterr().err
    run("export", *sharded, "--ckpt_path", "last", "--output", str(tmp_path / "exported"))


def stop_at(step, signum=signal.SIGINT, rank=0):
    flags = {"step": step, "signum": int(signum), "rank": rank}
    more = (f"--trainer.callbacks.{name}={value}" for name, value in flags.items())
    return ("--trainer.callbacks+=tests.stopper.StopAt", *more)


def test_in_fp16_with_skipped_steps_and_a_signal_to_one_rank_nothing_differs_either(command, tmp_path):
    skipped = ("--trainer.callbacks+=tests.stopper.Overflow", "--trainer.callbacks.steps=[1,6]")
    words = ("--trainer.plugins=tests.stopper.Fp16OnTheCPU", *skipped, *ranks(2), "--data.batch_size", "3")
    command("fit", "false", *words, folder="whole")
    command("fit", "true", *words, *stop_at(3, signal.SIGTERM, rank=1), folder="sharded", status=128 + signal.SIGTERM)
    command("fit", "true", *words, "--ckpt_path", "last", folder="sharded")
    whole, sharded = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "sharded"))
    assert_same_end(tmp_path / "whole", tmp_path / "sharded")
    assert whole["Fp16OnTheCPU"] == sharded["Fp16OnTheCPU"]
    assert whole["Fp16OnTheCPU"]["scale"] == 1024 / 4
    assert whole["onion_lightning"]["position"]["skipped_steps"] == 2
    for name in ("train/loss", "train/grad_norm", "val/loss"):
        assert curve(tmp_path / "whole", name) == curve(tmp_path / "sharded", name)


@pytest.mark.timeout(600)
def test_a_run_may_change_the_number_of_ranks_and_whether_they_share_the_weights(command, tmp_path):
    parts = [(2, "true", stop_at(1)), (3, "false", stop_at(3)), (2, "true", ())]
    for folder in ("whole", "mixed"):
        resume = ("--trainer.max_epochs", "1")
        for count, shard, stop in parts:
            words = (*MANY, *ranks(count), *resume, *stop)
            command("fit", shard if folder == "mixed" else "false", *words, folder=folder, status=130 if stop else 0)
            resume = ("--trainer.max_epochs", "1", "--ckpt_path", "last")
    assert_same_end(tmp_path / "whole", tmp_path / "mixed")
    for name in ("train/loss", "val/loss"):
        assert curve(tmp_path / "whole", name) == curve(tmp_path / "mixed", name)


def test_one_rank_that_runs_out_of_memory_ends_all_and_is_advised_to_share_what_takes_most_of_it(
    flags, shell, tmp_path, tiny_base
):
    deep = shutil.copytree(tiny_base, tmp_path / "deep")
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "max_position_embeddings": 512}
    LlamaForCausalLM(LlamaConfig(vocab_size=600, num_hidden_layers=16, **shape)).save_pretrained(deep)
    few = ("--data.batch_size", "1", "--data.max_length", "100", "--data.overflow", "cut", "--model.lora_rank", "2")
    words = ("--model.base_model", str(deep), *few, "--model.gradient_checkpointing", "true", *ranks(2))
    advice = "give --model.shard true, which spreads the frozen weights over more ranks; or --model.load_in nf4,"
    failing = run_out("gpu", rank=1)
    printed = {shard: shell(flags("fit", *words, "--model.shard", shard, *failing)) for shard in ("false", "true")}
    headlines = ("--data.headlines", '["A", "B"]')
    printed["predict"] = shell(flags("predict", *words, *headlines, *failing))
    for name, done in printed.items():
        assert done.returncode != 0
        assert "the GPU ran out of memory on rank 1" in done.stderr
        assert (advice in done.stderr) == (name != "true"), done.stderr
    assert "--model.shard" not in printed["true"].stderr
