"""Training in fp16 and bf16 on the CPU, with a real gradient scaler: what a GPU does in 16-mixed and bf16-mixed."""

import json

import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.training.checkpoint_io import read_checkpoint
from tests.conftest import adapters, curve, metrics_lines

FP16 = ("--trainer.plugins=tests.stopper.Fp16OnTheCPU",)
BF16 = ("--trainer.plugins=tests.stopper.Bfloat16OnTheCPU",)
OVERFLOW = "--trainer.callbacks+=tests.stopper.Overflow"
FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
SKIPPED = [1, 6]  # optimizer steps, counted from 0


def overflow(*steps: int) -> tuple[str, ...]:
    return (OVERFLOW, f"--trainer.callbacks.steps={list(steps)}")


def scaler_of(saved) -> dict:
    return saved["Fp16OnTheCPU"]


@FORMATS
@pytest.mark.parametrize(("plugin", "tolerance"), [(FP16, 2e-3), (BF16, 2e-2)], ids=["fp16", "bf16"])
def test_16_bit_training_loses_as_much_as_in_float32_and_keeps_float32_adapters(
    run, tmp_path, load_in, plugin, tolerance
):
    checkpointing = str(load_in == "nf4").lower()
    words = ("--trainer.max_steps", "4", "--model.load_in", load_in, "--model.gradient_checkpointing", checkpointing)
    run("fit", *words, *plugin, "--checkpoint.dirpath", str(tmp_path / "16"))
    run("fit", *words, "--checkpoint.dirpath", str(tmp_path / "32"))
    mixed, full = curve(tmp_path / "16"), curve(tmp_path / "32")
    assert list(mixed) == list(full) == [0, 1, 2, 3]
    assert list(mixed.values()) == pytest.approx(list(full.values()), rel=tolerance)
    assert mixed != full
    saved = adapters(tmp_path / "16" / "last.ckpt")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert all(value.any() for name, value in saved.items() if "lora_B" in name)


@FORMATS
@pytest.mark.parametrize("plugin", [FP16, BF16], ids=["fp16", "bf16"])
def test_a_sanity_check_before_training_changes_nothing(run, tmp_path, load_in, plugin):
    words = ("--trainer.max_steps", "2", "--model.load_in", load_in, *plugin)
    for steps in ("0", "2"):
        run("fit", *words, "--trainer.num_sanity_val_steps", steps, "--checkpoint.dirpath", str(tmp_path / steps))
    without, with_check = (adapters(tmp_path / steps / "last.ckpt") for steps in ("0", "2"))
    assert all(torch.equal(without[name], value) for name, value in with_check.items())


def test_a_step_that_the_scaler_skips_is_counted_nowhere(run, tmp_path, capsys):
    """Neither as a step, nor in the schedule, nor in the log; only the place in the epoch and the scale move on."""
    run("fit", "--trainer.max_epochs", "2", *FP16, *overflow(*SKIPPED))
    saved = read_checkpoint(tmp_path / "run" / "last.ckpt")
    assert saved["global_step"] == 8  # 2 epochs of 5, less 2
    assert saved["onion_lightning"]["position"]["skipped_steps"] == 2
    assert saved["lr_schedulers"][0]["last_epoch"] == 8
    assert saved["optimizer_states"][0]["state"][0]["step"] == 8
    assert scaler_of(saved)["scale"] == 1024 / 4
    steps = curve(tmp_path / "run")
    assert list(steps) == list(range(8))
    assert curve(tmp_path / "run", "train/skipped_steps") == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2}
    assert all(value < float("inf") for value in curve(tmp_path / "run", "train/grad_norm").values())
    assert "Done: step 8 (2 more skipped in fp16) after" in capsys.readouterr().err


def test_a_skipped_step_leaves_the_adapters_as_they_were(run, tmp_path):
    run("fit", "--trainer.max_steps", "2", *FP16, "--checkpoint.dirpath", str(tmp_path / "two"))
    last = ("--trainer.limit_train_batches", "6", "--trainer.max_epochs", "1", *overflow(2))
    run("fit", *last, *FP16, "--checkpoint.dirpath", str(tmp_path / "skips"))
    two, skips = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("two", "skips"))
    assert skips["global_step"] == two["global_step"] == 2
    assert all(torch.equal(two["state_dict"][name], value) for name, value in skips["state_dict"].items())


@pytest.mark.parametrize(("stop", "checkpoint"), [(1, "last"), (4, "last"), (4, "best"), (5, "last"), (5, "best")])
def test_a_run_in_fp16_that_skipped_steps_resumes_bit_for_bit(run, flags, tmp_path, stop, checkpoint):
    growth = json.dumps([{"class_path": "tests.stopper.Fp16OnTheCPU", "init_args": {"growth": 3}}])
    words = ("--trainer.plugins", growth, *overflow(*SKIPPED))
    run("fit", *words, "--checkpoint.dirpath", str(tmp_path / "whole"))
    stopper = ("--trainer.callbacks+=tests.stopper.StopAt", f"--trainer.callbacks.step={stop}")
    assert main(flags("fit", *words, *stopper)) == 130
    run("fit", *words, "--ckpt_path", checkpoint)
    whole, resumed = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "run"))
    assert all(torch.equal(whole["state_dict"][name], value) for name, value in resumed["state_dict"].items())
    assert scaler_of(resumed) == scaler_of(whole)
    assert resumed["global_step"] == whole["global_step"] == 8
    assert resumed["onion_lightning"]["position"] == whole["onion_lightning"]["position"]
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert len(metrics_lines(tmp_path / "whole")) == 1 + 8 + 2  # a row for each step and each validation
    assert len(metrics_lines(tmp_path / "run")) == len(metrics_lines(tmp_path / "whole"))


def test_a_run_whose_every_step_is_skipped_stops_with_one_sentence(refused, tmp_path):
    words = ("--trainer.max_epochs", "6", *FP16, *overflow(*range(30)))
    sentence = refused("fit", *words)
    assert "at optimizer step 1 (epoch 4)" in sentence
    assert "the gradient norm inf" in sentence
    assert (
        not (tmp_path / "run" / "best.ckpt").exists()
        or read_checkpoint(tmp_path / "run" / "best.ckpt")["global_step"] == 0
    )
