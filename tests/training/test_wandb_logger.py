"""W&B that fails or cannot be reached, for real in offline mode."""

import json
import time

import pytest

from onion_lightning.training.wandb_logger import why_offline
from tests.conftest import metrics_lines


def test_without_a_key_or_a_network_wandb_is_found_unreachable_within_seconds(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "no API key" in why_offline()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    assert why_offline() == "127.0.0.1 does not respond"
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


def test_a_resumed_fit_continues_the_same_wandb_run_and_reports_once_that_it_is_offline(
    run, wandb_flags, tmp_path, capsys
):
    run("fit", "--trainer.max_steps", "2", *wandb_flags)
    assert capsys.readouterr().err.count("W&B is offline: no API key") == 1
    run("fit", "--trainer.max_steps", "4", "--ckpt_path", "last", *wandb_flags)
    ids = [path.stem for path in (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert [line.split(",")[0] for line in metrics_lines(tmp_path / "run")[1:]] == ["0", "1", "2", "3"]


def test_only_fit_starts_a_wandb_run(run, wandb_flags, tmp_path):
    config = tmp_path / "wandb.yaml"
    config.write_text(f"trainer: {{logger: {wandb_flags[1]}}}\n")
    run("validate", "--config", str(config))
    run("predict", "--data.headlines", '["Egg"]', "--config", str(config))
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.fault
def test_wandb_failing_during_a_run_is_one_warning_and_training_continues(flags, shell, wandb_flags, tmp_path):
    done = shell(flags("fit", "--trainer.max_steps", "6", *wandb_flags, "--trainer.callbacks+=tests.stopper.KillWandb"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B failed") == 1
    assert len(metrics_lines(tmp_path / "run")) == 1 + 6 + 1


@pytest.mark.fault
def test_a_wandb_folder_that_cannot_be_written_does_not_stop_a_run(flags, shell, tmp_path):
    (tmp_path / "file").write_text("in the way")
    arguments = {"save_dir": str(tmp_path / "file" / "below"), "offline": True}
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    words = flags("fit", "--trainer.max_steps", "2", "--trainer.logger", json.dumps(logger))
    done = shell(words, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(metrics_lines(tmp_path / "run")) == 3
