"""The metrics file, and W&B, for real in offline mode."""

import json
import time

import pytest

from onion_lightning.training.loggers import MetricsFile, why_offline


def rows(folder):
    return (folder / "metrics.csv").read_text().splitlines()


def test_new_columns_and_rows_are_added_to_what_is_there(tmp_path):
    first = MetricsFile(tmp_path)
    first.log_metrics({"a": 1.0}, 0)
    first.log_metrics({"a": 2.0, "b": 3.0}, 1)
    MetricsFile(tmp_path).log_metrics({"b": 4.0}, 2)
    assert rows(tmp_path) == ["step,a,b", "0,1.0,", "1,2.0,3.0", "2,,4.0"]


def test_a_resumed_run_drops_the_rows_it_takes_again(tmp_path):
    logger = MetricsFile(tmp_path)
    for step in range(5):
        logger.log_metrics({"a": float(step)}, step)
    again = MetricsFile(tmp_path)
    again.log_metrics({"a": 30.0}, 3)
    assert rows(tmp_path) == ["step,a", "0,0.0", "1,1.0", "2,2.0", "3,30.0"]


def test_a_validation_that_is_done_again_replaces_its_row_alone(tmp_path):
    logger = MetricsFile(tmp_path)
    for metrics, step in (({"a": 1.0}, 0), ({"a": 2.0}, 1), ({"v": 5.0}, 1), ({"a": 3.0}, 2)):
        logger.log_metrics(metrics | {"epoch": 0}, step)
    MetricsFile(tmp_path).log_metrics({"v": 6.0, "epoch": 0}, 1)
    assert rows(tmp_path) == ["step,a,epoch,v", "0,1.0,0,", "1,2.0,0,", "1,,0,6.0"]


def test_without_a_key_or_a_network_wandb_is_known_to_be_out_of_reach_in_seconds(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "no API key" in why_offline()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    assert why_offline() == "127.0.0.1 does not answer"
    assert time.monotonic() - began < 15
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert why_offline() is None


@pytest.fixture
def wandb_flags(tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "run").mkdir()
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"save_dir": str(tmp_path / "run")}}
    return ("--trainer.logger", json.dumps(logger))


def test_a_resumed_fit_goes_on_in_the_same_wandb_run_and_says_once_that_it_is_offline(
    run, wandb_flags, tmp_path, capsys
):
    run("fit", "--trainer.max_steps", "2", *wandb_flags)
    assert capsys.readouterr().err.count("W&B is offline: no API key") == 1
    run("fit", "--trainer.max_steps", "4", "--ckpt_path", "last", *wandb_flags)
    ids = [path.stem for path in (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert [line.split(",")[0] for line in rows(tmp_path / "run")[1:]] == ["0", "1", "2", "3"]


def test_without_wandb_files_nobody_but_fit_starts_a_run(run, wandb_flags, tmp_path):
    run("validate", *wandb_flags)
    run("predict", "--data.headlines", '["Egg"]', *wandb_flags)
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.fault
def test_wandb_lost_in_the_middle_of_a_run_is_one_warning_and_training_goes_on(flags, shell, wandb_flags, tmp_path):
    done = shell(flags("fit", "--trainer.max_steps", "6", *wandb_flags, "--trainer.callbacks+=tests.stopper.KillWandb"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B is lost") == 1
    assert len(rows(tmp_path / "run")) == 1 + 6 + 1


@pytest.mark.fault
def test_a_wandb_folder_that_cannot_be_written_does_not_stop_a_run(flags, shell, tmp_path):
    (tmp_path / "file").write_text("in the way")
    arguments = {"save_dir": str(tmp_path / "file" / "below"), "offline": True}
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    words = flags("fit", "--trainer.max_steps", "2", "--trainer.logger", json.dumps(logger))
    done = shell(words, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "run")) == 3
