"""Checkpoints that are damaged, foreign or malicious."""

import os

import pytest
import torch


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "foreign":
        torch.save({"weights": torch.zeros(2)}, path)
    elif how == "pickle":
        torch.save({"run": Malicious()}, path)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch " + os.environ["ONION_TEST_TRAP"],)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "foreign", "pickle"])
def test_an_invalid_checkpoint_is_named_the_newest_valid_one_offered_and_no_code_in_it_runs(
    run, refused, tmp_path, how, monkeypatch
):
    monkeypatch.setenv("ONION_TEST_TRAP", str(tmp_path / "trap"))
    run("fit", "--trainer.max_epochs", "1")
    last = tmp_path / "run" / "last.ckpt"
    damaged(last, how)
    for command in ("fit", "validate"):
        sentence = refused(command, "--ckpt_path", "last")
        assert str(last) in sentence
        assert f"the newest valid one is {tmp_path / 'run' / 'best.ckpt'}" in sentence
    assert not (tmp_path / "trap").exists()
