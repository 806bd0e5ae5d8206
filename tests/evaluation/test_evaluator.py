"""Losses that are not finite."""

import math

import torch

from tests.evaluation.conftest import SMALL


def test_a_loss_that_is_not_finite_is_an_error_and_no_report_is_written(evaluated, refused, tmp_path):
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    next(value for name, value in checkpoint["state_dict"].items() if "lora_B" in name).fill_(math.nan)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    words = ("--ckpt_path", str(tmp_path / "broken.ckpt"), "--output", str(tmp_path / "report"))
    assert "the loss of the tuned model is not finite for" in refused("evaluate", *SMALL, *words)
    assert not (tmp_path / "report").exists()
