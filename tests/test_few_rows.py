"""Training on all rows, and on a corpus of a few rows."""

import csv

import pytest
import torch

from onion_lightning.cli.main import main
from tests.conftest import adapters, curve
from tests.tiny import sample_rows

ALL = ("--data.val_fraction", "0")


def test_training_on_all_rows_writes_no_best_and_resumes(run, refused, tmp_path, capsys):
    run("fit", *ALL, "--trainer.max_epochs", "2")
    printed = capsys.readouterr().err
    assert printed.count("--data.val_fraction 0: training without validation, samples and best.ckpt.") == 1
    assert "lowest validation loss" not in printed
    folder = tmp_path / "run"
    assert {file.name for file in folder.glob("*")} == {
        "last.ckpt",
        "metrics.csv",
        "corpus_report.json",
        "config.yaml",
        ".lock",
    }
    assert curve(folder, "val/loss") == {}
    steps = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    run("fit", *ALL, "--trainer.max_epochs", "1")
    run("fit", *ALL, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == steps
    assert "best.ckpt: no such file, which only a run with validation writes; the newest valid one is" in refused(
        "predict", "--ckpt_path", "best", "--data.headlines", '["A"]'
    )
    assert "leaves no validation rows" in refused("validate", *ALL, "--ckpt_path", "last")


def test_training_on_all_rows_stopped_and_resumed_ends_bit_for_bit_the_same(run, flags, tmp_path):
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=6")
    run("fit", *ALL, "--checkpoint.dirpath", str(tmp_path / "whole"))
    assert main(flags("fit", *ALL, *stop)) == 130
    run("fit", *ALL, "--ckpt_path", "last")
    whole, resumed = (adapters(tmp_path / name / "last.ckpt") for name in ("whole", "run"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


@pytest.mark.parametrize("count", [3, 8])
def test_a_few_rows_are_enough(run, tmp_path, count):
    file = tmp_path / "few.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([["Title", "Content"], *([row["Title"], row["Content"]] for row in sample_rows()[:count])])
    run("fit", "--data.path", str(file), "--data.val_fraction", "0.001", "--data.test_fraction", "0")
    assert len(curve(tmp_path / "run", "val/loss")) == 2
    assert (tmp_path / "run" / "best.ckpt").exists()
