"""A tiny model that was trained on few rows, and the command that tests what it gives away."""

import csv
import json
import random

import pytest

from tests.conftest import records, sample_rows

# Enough to learn a few rows by heart.
BY_HEART = (
    *("--model.target_modules", "all-linear", "--model.lora_rank", "32", "--model.lora_alpha", "64"),
    *("--model.load_in", "none", "--model.lora_dropout", "0", "--samples.count", "0"),
)


def write_rows(file, rows):
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("Title", "Content"), *rows])
    return str(file)


@pytest.fixture
def memorize(run, tmp_path):
    """Runs the command on the last checkpoint; returns memorize.json, rows.jsonl and the page."""

    def command(*more, name="report"):
        folder = tmp_path / name
        run("memorize", "--ckpt_path", "last", "--output", str(folder), *more)
        result = json.loads((folder / "memorize.json").read_text())
        return result, records(folder / "rows.jsonl"), (folder / "report.html").read_text()

    return command
