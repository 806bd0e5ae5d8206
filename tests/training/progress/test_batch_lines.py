"""The lines of commands other than `fit` where standard error is not a terminal."""

import logging
import os
import re

import pytest

from onion_lightning.training.progress.batch_lines import BatchLines
from tests.warm import start_command

LINES = ("--trainer.enable_progress_bar", "true")
HEADLINES = ("--data.headlines", '["Egg Wins", "Egg Loses"]', "--data.batch_size", "1")


def test_batches_are_counted_at_the_start_at_most_once_a_minute_and_at_the_end(clock, lines):
    callback = BatchLines("evaluate", clock)
    callback.begin([4])
    for clock.now in (50, 100, 150, 200):
        callback.count()
    callback.finish()
    assert lines() == [
        "evaluation: 0 of 4 batches",
        "evaluation: 2 of 4 batches, 0:01:40 remaining",
        "evaluation: 4 of 4 batches",
        "evaluation: 4 of 4 batches",
    ]


def test_in_a_log_file_the_last_line_of_predict_comes_before_the_number_of_articles(flags, shell):
    done = shell(flags("predict", *LINES, *HEADLINES))
    assert done.returncode == 0, done.stderr
    printed = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in done.stderr.splitlines()]
    assert printed[0].startswith("loading ")
    assert printed[-3:-1] == ["writing articles: 0 of 2 batches", "writing articles: 2 of 2 batches"]
    assert printed[-1].startswith("2 articles written to ")


def test_evaluate_and_attend_log_what_they_do(run, caplog, tmp_path):
    caplog.set_level(logging.INFO, "onion_lightning")
    run("fit", "--trainer.max_steps", "2", "--samples.count", "0")
    caplog.clear()
    run("evaluate", *LINES, "--ckpt_path", "last", "--count", "2", "--shots", "0", "--output", str(tmp_path / "e"))
    text = ("--text", "The University of California said that San Francisco is full of eggs.")
    phrases = ("--query", "San Francisco", "--key", "University of California")
    run("attend", *LINES, *text, *phrases, "--output", str(tmp_path / "a"))
    said = [record.getMessage()[9:] for record in caplog.records if record.name == "onion_lightning.progress"]
    assert re.fullmatch(r"evaluation: 0 of (\d+) batch(es)?", said[1])
    assert "evaluation: 3 of 3 batches" in said
    assert [line.split(" ")[0] for line in said if line.startswith("loading ")] == ["loading"] * 2
    assert re.fullmatch(r"reading the attention of \d+ tokens in 2 layers", said[-1])


@pytest.mark.parametrize(("command", "task"), [("validate", "validation"), ("test", "test")])
def test_validate_and_test_count_batches(run, caplog, command, task):
    caplog.set_level(logging.INFO, "onion_lightning")
    run(command, *LINES)
    said = [record.getMessage()[9:] for record in caplog.records if record.name == "onion_lightning.progress"]
    first, last = (re.fullmatch(rf"{task}: (\d+) of (\d+) batch(es)?", line).groups() for line in said[-2:])
    assert first[0] == "0"
    assert last[0] == last[1] == first[1]


def test_a_closed_pipe_does_not_stop_a_command(flags, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with (tmp_path / "stdout").open("w") as output:
        process = start_command(flags("predict", *LINES, *HEADLINES), dict(os.environ), output.fileno(), writer)
    os.close(writer)
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "articles.jsonl").exists()
