"""A tiny model that has learned 20 articles by heart, and the command that finds this out."""

import csv
import json
from typing import NamedTuple

import pytest

from onion_lightning.cli.main import main
from onion_lightning.data.corpus import split_of
from tests.conftest import command_line, records, sample_rows

FRACTIONS = (0.2, 0.15)  # of `command_line`
# Enough to learn articles of 60 tokens by heart in 45 steps.
BY_HEART = (
    *("--model.target_modules", "all-linear", "--model.lora_rank", "64", "--model.lora_alpha", "128"),
    *("--model.load_in", "none", "--model.lora_dropout", "0", "--model.learning_rate", "0.02"),
    *("--data.batch_size", "32", "--data.global_batch_size", "32", "--data.max_length", "120"),
    *("--trainer.gradient_clip_val", "1", "--trainer.limit_val_batches", "0", "--samples.count", "0"),
)


def write_rows(file, rows):
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("Title", "Content"), *rows])
    return str(file)


def rows_of(split, count):
    """The rows of the sample corpus in a split with the shortest headlines: their prompts leave room for an article."""
    found = [(row["Title"], row["Content"]) for row in sample_rows() if (split_of(row["Title"], *FRACTIONS) == split)]
    return sorted(found, key=lambda row: len(row[0]))[:count]


class Learned(NamedTuple):
    """The flags that select a run and its corpus, and what `memorize` found."""

    flags: tuple[str, ...]
    result: dict
    rows: list


@pytest.fixture(scope="session")
def learned(tmp_path_factory, tiny_base):
    """Trains on 20 articles until it knows them, and tests it with 12 held-out ones."""
    folder = tmp_path_factory.mktemp("learned")
    path = write_rows(folder / "rows.csv", rows_of("train", 20) + rows_of("validation", 6) + rows_of("test", 6))

    def run(command, *more):
        words = [*command_line(command, tiny_base, path, folder), *BY_HEART, *more]
        assert main(words) == 0

    run("fit", "--trainer.max_epochs", "45")
    flags = (
        "--data.path",
        path,
        "--checkpoint.dirpath",
        str(folder / "run"),
        "--ckpt_path",
        "last",
        "--batch_size",
        "8",
    )
    run("memorize", *flags, "--output", str(folder / "report"))
    report = folder / "report"
    return Learned(flags, json.loads((report / "memorize.json").read_text()), records(report / "rows.jsonl"))


@pytest.fixture
def memorize(run, tmp_path):
    """Runs the command on the last checkpoint; returns memorize.json and rows.jsonl."""

    def command(*more):
        run("memorize", "--ckpt_path", "last", "--output", str(tmp_path / "report"), *more)
        return json.loads((tmp_path / "report" / "memorize.json").read_text()), records(
            tmp_path / "report" / "rows.jsonl"
        )

    return command
