"""The `evaluate` command on a tiny model: its report, flags and errors."""

import json
import re

import markupsafe
import pytest
import wandb

from onion_lightning.evaluation.report import FILES
from onion_lightning.evaluation.tasks import SYSTEMS
from tests.conftest import ranks, records
from tests.evaluation.conftest import SMALL
from tests.test_fault import wait_for


def test_the_report_contains_the_metrics_and_each_headline_once(evaluated):
    metrics, samples, page = evaluated()
    assert len(samples) == 5 == len({one["headline"] for one in samples})
    for name in SYSTEMS:
        values = metrics["systems"][name]
        assert values["eos_rate"] + values["cut_rate"] == pytest.approx(1)
        losses = sum(one["systems"][name]["loss"] for one in samples)
        assert values["loss"] == pytest.approx(losses / sum(one["tokens"] for one in samples))
        low, high = metrics["intervals"][name]["loss"]
        assert low <= values["loss"] <= high
    assert metrics["systems"]["base"]["loss"] != metrics["systems"]["tuned"]["loss"]
    assert metrics["systems"]["base"]["loss"] != metrics["systems"]["few_shot"]["loss"]
    assert all(str(markupsafe.escape(one["headline"])) in page for one in samples)
    assert not re.search(r"(src|href)=\"?http|@import|url\(http", page)


def test_the_tuned_loss_equals_the_test_loss_and_the_same_seed_produces_the_same_report(
    evaluated, run, tmp_path, capsys
):
    every = ("--count", "10", "--model.load_in", "none")
    metrics, _, page = evaluated(*every)
    again, _, same = evaluated(*every, name="again")
    assert again == metrics
    assert same == page
    capsys.readouterr()
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    run("test", "--data.test_fraction", "0.5", "--model.load_in", "none", *checkpoint)
    logged = float(re.search(r"test/loss\W+([\d.]+)", capsys.readouterr().out)[1])
    assert metrics["settings"]["headlines"] == 10
    assert metrics["systems"]["tuned"]["loss"] == pytest.approx(logged, rel=1e-4)


@pytest.mark.parametrize(("count", "batch_size"), [(2, "2"), (4, "8")])  # nine tasks, and three for four ranks
def test_the_report_does_not_depend_on_the_number_of_ranks(evaluated, flags, shell, tmp_path, count, batch_size):
    metrics, samples, _ = evaluated("--batch_size", batch_size)
    words = (*SMALL, "--batch_size", batch_size, "--ckpt_path", str(tmp_path / "run" / "last.ckpt"), *ranks(count))
    words += ("--output", str(tmp_path / "two"))
    done = shell(flags("evaluate", *words))
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    two["settings"]["checkpoint"] = metrics["settings"]["checkpoint"]
    assert two == metrics
    assert records(tmp_path / "two" / "samples.jsonl") == samples
    assert done.stderr.count("Report:") == 1


def test_the_best_of_several_is_a_system_that_is_the_same_on_any_number_of_ranks(evaluated, flags, shell, tmp_path):
    more = ("--best_of", "3", "--model.max_new_tokens", "20")
    metrics, samples, page = evaluated(*more)
    assert list(metrics["systems"]) == [*SYSTEMS, "best_of", "real"]
    assert "Best of 3" in page
    words = (
        *SMALL,
        *more,
        "--ckpt_path",
        str(tmp_path / "run" / "last.ckpt"),
        *ranks(2),
        "--output",
        str(tmp_path / "two"),
    )
    done = shell(flags("evaluate", *words))
    assert done.returncode == 0, done.stderr
    two = records(tmp_path / "two" / "samples.jsonl")
    for one in (*samples, *two):
        assert one["systems"]["best_of"]["article"] != one["systems"]["tuned"]["article"]
        for name in ("tuned", "best_of"):
            assert one["systems"][name].pop("seconds") > 0
    assert two == samples


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--best_of", "0"], "--best_of 0: must be at least 1."),
        (
            ["--best_of", "2", "--model.temperature", "0"],
            "--best_of 2: with --model.temperature 0 all candidates would",
        ),
        (["--count", "500"], "--count 500: the test split has 10 headlines"),
        (["--count", "1"], "--count 1: must be at least 2"),
        (["--shots", "-1"], "--shots -1: must be at least 0."),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1."),
        (["--shots", "900"], "--shots 900: only 4 training examples fit in --data.max_length 200 without being cut"),
        (
            ["--data.test_fraction", "0.6"],
            "was trained with 0.5, and another split would hold out rows it was trained on",
        ),
        (["--data.val_fraction", "0.1"], "--data.val_fraction 0.1: "),
        (
            ["--data.max_length", "150", "--shots", "3"],
            " training examples fit in --data.max_length 150 without being cut; use fewer",
        ),
        (["--trainer.limit_predict_batches", "0.5"], "--trainer.limit_predict_batches 0.5: evaluate needs all batches"),
        (["--trainer.fast_dev_run", "true"], "--trainer.fast_dev_run True: evaluate needs all batches"),
        (["--output", "/proc/nothing/here"], "--output /proc/nothing/here: cannot be written"),
        (["--ckpt_path", "null"], "--ckpt_path: evaluate needs the checkpoint of a fine-tuned model"),
    ],
)
def test_bad_input_is_reported_in_one_sentence_and_nothing_is_written(evaluated, refused, tmp_path, words, says):
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    assert says in refused("evaluate", *SMALL, *checkpoint, "--output", str(tmp_path / "report"), *words)
    assert not (tmp_path / "report").exists()


def test_an_existing_report_is_replaced_only_with_overwrite(evaluated, refused, tmp_path):
    evaluated()
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    assert "--overwrite true" in refused("evaluate", *SMALL, *checkpoint, "--output", str(tmp_path / "report"))
    evaluated("--overwrite", "true")
    assert {file.name for file in (tmp_path / "report").iterdir()} == set(FILES)  # no temporary files


def test_articles_and_metrics_are_logged_to_wandb(evaluated, tmp_path, monkeypatch):
    arguments = {"save_dir": str(tmp_path / "run"), "offline": True}
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    _, samples, _ = evaluated("--trainer.logger", json.dumps(logger))
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/table/evaluation_*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == ["headline", *SYSTEMS, "real"]
    assert [row[0] for row in table["data"]] == [one["headline"] for one in samples]
    wandb.finish()
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    wait_for(lambda: b"evaluation/tuned/loss" in run.read_bytes())  # W&B's own process writes it
