"""Losses of given articles, and losses that are not finite."""

import math

import pytest
import torch
from scipy.special import logsumexp

from onion_lightning.evaluation.evaluator import completion_losses
from tests.conftest import module
from tests.evaluation.conftest import SMALL


def test_completion_losses_match_the_logits_of_the_model(tiny_base):
    made = module(tiny_base, load_in="none").eval()
    prompts, completions = [[1, 30, 40], [1, 50]], [[60, 70, 2], [80]]
    head = made.language_model.get_output_embeddings()
    with torch.no_grad():
        losses = completion_losses(made, head, prompts, completions, torch.device("cpu"))
        for prompt, completion, loss in zip(prompts, completions, losses, strict=True):
            logits = made.language_model(torch.tensor([prompt + completion])).logits[0].double().numpy()
            at = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
            by_hand = sum(logsumexp(logits[p]) - logits[p][t] for p, t in zip(at, completion, strict=True))
            assert loss == pytest.approx(by_hand, rel=1e-5)


def test_a_loss_that_is_not_finite_is_an_error_and_no_report_is_written(evaluated, refused, tmp_path):
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    next(value for name, value in checkpoint["state_dict"].items() if "lora_B" in name).fill_(math.nan)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    words = ("--ckpt_path", str(tmp_path / "broken.ckpt"), "--output", str(tmp_path / "report"))
    assert "the loss of the tuned model is not finite for" in refused("evaluate", *SMALL, *words)
    assert not (tmp_path / "report").exists()
