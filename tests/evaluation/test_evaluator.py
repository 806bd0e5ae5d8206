"""Ranks of headlines, and losses that are not finite."""

import math

import pytest
import torch

from onion_lightning.evaluation.evaluator import rank_headlines
from tests.conftest import module
from tests.evaluation.conftest import SMALL
from tests.model.writing.test_losses import PROMPTS, loss_alone


@pytest.fixture(params=["none", "int8"])
def scorer(tiny_base, request):
    with torch.no_grad():
        yield module(tiny_base, load_in=request.param).eval()


def test_ranks_equal_those_of_one_row_at_a_time(scorer):
    articles = ["An egg wins again.", "", "The mayor of Toledo said that the egg was hers."]
    positions = [2, 1, 0]
    for article, own, rank in zip(
        articles,
        positions,
        rank_headlines(scorer.language_model, scorer.tokenizer, PROMPTS, positions, articles),
        strict=True,
    ):
        opening = scorer.tokenizer(article, add_special_tokens=False).input_ids
        alone = [loss_alone(scorer, prompt, opening) for prompt in PROMPTS] if opening else [0.0] * len(PROMPTS)
        assert rank == sum(loss <= alone[own] for loss in alone)


def test_equal_headlines_count_against_the_own_one(scorer):
    assert rank_headlines(scorer.language_model, scorer.tokenizer, [PROMPTS[0]] * 3, [1], ["An egg wins again."]) == [3]


def test_a_loss_that_is_not_finite_is_an_error_and_no_report_is_written(evaluated, refused, tmp_path):
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    next(value for name, value in checkpoint["state_dict"].items() if "lora_B" in name).fill_(math.nan)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    words = ("--ckpt_path", str(tmp_path / "broken.ckpt"), "--output", str(tmp_path / "report"))
    assert "the loss of the tuned model is not finite for" in refused("evaluate", *SMALL, *words)
    assert not (tmp_path / "report").exists()
