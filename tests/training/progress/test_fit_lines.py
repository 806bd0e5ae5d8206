"""The lines that `fit` logs where standard error is not a terminal."""

import logging
import re
from pathlib import Path

import torch

from onion_lightning.training.progress.fit_lines import FitLines
from tests.conftest import ranks
from tests.training.progress.conftest import FakeTrainer

LINES = ("--trainer.enable_progress_bar", "true", "--progress", "lines")
STEP = (
    r"\d\d:\d\d:\d\d epoch (\d+) of (\d+), step (\d+) of (\d+), loss \d+\.\d{3}, learning rate \d\.\d\de[-+]\d\d,"
    r" \d+ tokens/s, \d:\d\d:\d\d remaining"
)


def train(clock, trainer, seconds, micro_batches, first=0):
    """Train on micro-batches that take the given time each."""
    lines = FitLines(clock)
    lines.on_train_start(trainer, None)
    for index in range(first, first + micro_batches):
        lines.on_train_batch_start(trainer, None, None, index)
        clock.now += seconds
        if (index + 1) % trainer.accumulate_grad_batches == 0:
            trainer.global_step += 1
            trainer.callback_metrics = {"train/loss": torch.tensor(2.5), "learning_rate": torch.tensor(3e-4)}
        lines.on_train_batch_end(trainer, None, None, {"tokens": 1000}, index)
    lines.on_train_end(trainer, None)
    return lines


def test_fast_steps_have_a_line_every_log_every_n_steps(clock, lines):
    train(clock, FakeTrainer(), 5, 20)
    text = "loss 2.500, learning rate 3.00e-04, 100 tokens/s"
    assert lines() == [
        f"epoch 1 of 2, step 3 of 10, {text}, 0:01:10 remaining",
        f"epoch 1 of 2, step 6 of 10, {text}, 0:00:40 remaining",
        f"epoch 1 of 2, step 9 of 10, {text}, 0:00:10 remaining",
    ]


def test_slow_steps_have_a_line_every_minute(clock, lines):
    train(clock, FakeTrainer(log_every_n_steps=50), 15, 20)
    assert [re.search(r"step \d+ of 10", line)[0] for line in lines()] == [f"step {n} of 10" for n in (2, 4, 6, 8, 10)]


def test_a_step_longer_than_a_minute_is_reported_from_its_micro_batches(clock, lines):
    trainer = FakeTrainer(accumulate_grad_batches=4, num_training_batches=40, log_every_n_steps=50)
    train(clock, trainer, 25, 8)
    assert [line.split(",")[2].strip() for line in lines()] == [
        "3 of 4 micro-batches of the next step",
        "2 of 4 micro-batches of the next step",
    ]


def test_the_line_of_a_blocked_run_says_what_it_is_doing(clock, lines):
    trainer = FakeTrainer()
    callback = train(clock, trainer, 1, 10)
    callback.on_validation_batch_start(trainer, None, None, 2)
    assert "step 5 of 10, validation batch 3 of 4, loss" in callback.line()
    callback.on_train_batch_start(trainer, None, None, 10)
    assert "validation" not in callback.line()


def test_validations_samples_and_checkpoints_have_a_line_each_but_last_is_not_reported_more_often_than_steps(
    clock, lines
):
    trainer = FakeTrainer()
    callback = FitLines(clock)
    callback.wrote_checkpoint(Path("last.ckpt"))  # before training
    callback.on_validation_end(trainer, None)  # the sanity check
    callback.on_train_start(trainer, None)
    for trainer.global_step in range(1, 11):
        callback.wrote_checkpoint(Path("last.ckpt"))
    trainer.callback_metrics = {"val/loss": torch.tensor(2.0), "val/perplexity": torch.tensor(7.389)}
    callback.on_validation_end(trainer, None)
    callback.wrote_samples(1, Path("samples.txt"))
    callback.wrote_checkpoint(Path("best.ckpt"))
    callback.on_train_end(trainer, None)
    assert lines() == [
        *(f"step {step} of 10: checkpoint written to last.ckpt" for step in (3, 6, 9, 10)),
        "step 10 of 10: validation loss 2.0000, perplexity 7.39",
        "step 10 of 10: 1 sample written to samples.txt",
        "step 10 of 10: checkpoint written to best.ckpt",
    ]


def test_fit_counts_the_steps_of_the_whole_run_and_a_resumed_run_continues(run, caplog, tmp_path):
    caplog.set_level(logging.INFO, "onion_lightning")

    def steps(*words):
        caplog.clear()
        run("fit", *LINES, "--trainer.log_every_n_steps", "2", *words)
        found = [re.fullmatch(STEP, record.getMessage()) for record in caplog.records]
        return [tuple(map(int, match.groups())) for match in found if match]

    assert steps("--trainer.max_steps", "3") == [(1, 1, 2, 3)]
    assert steps("--ckpt_path", "last") == [(1, 2, 5, 10), (2, 2, 7, 10), (2, 2, 9, 10)]


def test_only_one_rank_prints_lines(flags, shell):
    done = shell(flags("fit", *LINES, *ranks(2), "--data.batch_size", "2", "--trainer.max_steps", "2"))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(STEP, done.stderr)) == 2
    assert done.stderr.count("loading ") == 1
