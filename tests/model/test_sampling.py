"""Nucleus sampling draws from the right tokens, with the right probabilities."""

import pytest
import torch
from transformers import TopPLogitsWarper

from onion_lightning.errors import NonFiniteError
from onion_lightning.model import sampling
from onion_lightning.model.sampling import NucleusSampling
from tests.conftest import module

ROWS = 20_000


def draw(scores: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Return a token for each row; scores are (rows, vocabulary)."""
    only = NucleusSampling(temperature, top_p)(torch.zeros(len(scores), 1), scores)
    assert only.isfinite().sum(1).eq(1).all()
    return only.argmax(1)


@pytest.mark.parametrize("candidates", [4, 50, 1024])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (1.5, 0.5), (1.0, 1e-6)])
def test_tokens_are_drawn_as_often_as_transformers_says(monkeypatch, candidates, temperature, top_p):
    """4 candidates do not reach the probability, so that the whole vocabulary is sorted."""
    monkeypatch.setattr(sampling, "CANDIDATES", candidates)
    torch.manual_seed(0)
    scores = torch.randn(1, 50) * 2
    expected = TopPLogitsWarper(top_p)(None, scores / temperature).softmax(1)[0]
    share = torch.bincount(draw(scores.expand(ROWS, -1), temperature, top_p), minlength=50) / ROWS
    assert not share[expected == 0].any()
    spread = (expected * (1 - expected) / ROWS).sqrt()
    assert ((share - expected).abs() <= 5 * spread + 1e-6).all()


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_a_row_is_drawn_independently_of_the_other_rows(top_p):
    torch.manual_seed(0)
    scores = torch.randn(3, 3000)
    scores[2] *= 0.01  # nearly uniform: its nucleus is larger than the candidates
    torch.manual_seed(1)
    together = draw(scores, 1.0, top_p)
    torch.manual_seed(1)
    assert torch.equal(draw(scores[:2], 1.0, top_p), together[:2])


@pytest.mark.parametrize("drawn", [0.0, 1.0])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_the_smallest_and_the_largest_random_number_draw_a_token_that_has_a_probability(monkeypatch, drawn, top_p):
    monkeypatch.setattr(torch, "rand_like", lambda mass: torch.full_like(mass, drawn))
    scores = torch.full((1, 5000), -torch.inf)
    scores[0, 10:13] = torch.tensor([0.0, 1.0, 0.5])
    assert 10 <= int(draw(scores, 1.0, top_p)) < 13


def test_a_nucleus_of_more_than_1024_tokens_is_drawn_from_as_a_whole():
    torch.manual_seed(0)
    scores = torch.linspace(0.01, 0.0, 5000)[None]  # nearly equal, the first is the most probable
    drawn = {int(draw(scores, 1.0, 0.99)) for _ in range(40)}
    assert sum(token >= sampling.CANDIDATES for token in drawn) > 20  # of 40, about 32 are beyond the first 1024


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_stop_generation_instead_of_writing_anything(tiny_base, value, temperature):
    made = module(tiny_base, temperature=temperature, max_new_tokens=4)
    made.language_model.lm_head.register_forward_hook(lambda layer, inputs, logits: torch.full_like(logits, value))
    with pytest.raises(NonFiniteError, match="the model's logits are not finite"):
        made.write(["Egg Wins"], seed=0)


def test_one_row_that_is_not_finite_is_enough_to_stop():
    scores = torch.tensor([[0.0, 1.0], [0.0, torch.nan]])
    with pytest.raises(NonFiniteError):
        sampling.FiniteLogits()(torch.zeros(2, 1), scores)


def test_a_token_that_is_excluded_does_not_count_as_not_finite():
    scores = torch.tensor([[0.0, -torch.inf]])
    assert sampling.FiniteLogits()(torch.zeros(1, 1), scores) is scores
