"""Losses of completions and openings, against those of one row at a time."""

import pytest
import torch
from scipy.special import logsumexp

from onion_lightning.model.writing import losses
from onion_lightning.model.writing.losses import common_length, completion_losses, opening_losses, token_batches
from tests.conftest import module

EXAMPLES = [1, *range(100, 140)]  # long enough to be shared
PROMPTS = [[1, 30, 40], [1, 50, 60, 70], [1, 30, 41], [1, 80, 90, 20]]
COMPLETIONS = [[60, 70, 2], [80], [20, 30, 40, 50, 60], [90, 91]]


@pytest.fixture(params=["none", "int8"])
def scorer(tiny_base, request):
    with torch.no_grad():
        yield module(tiny_base, load_in=request.param).eval()


@pytest.fixture(params=[1, 8, 1024])
def batch_tokens(monkeypatch, request):
    monkeypatch.setattr(losses, "BATCH_TOKENS", request.param)
    monkeypatch.setattr(losses, "LOGIT_POSITIONS", 3)


def loss_alone(model, prompt, completion):
    """The loss of one row, without padding, a cache or a batch."""
    logits = model.language_model(torch.tensor([prompt + completion]), use_cache=False).logits[0].double().numpy()
    at = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return sum(logsumexp(logits[p]) - logits[p][t] for p, t in zip(at, completion, strict=True))


@pytest.mark.parametrize("before", [[], EXAMPLES], ids=["no examples", "examples"])
def test_completion_losses_equal_those_of_one_row_at_a_time(scorer, batch_tokens, before):
    prompts = [before + prompt for prompt in PROMPTS]
    alone = [loss_alone(scorer, prompt, ids) for prompt, ids in zip(prompts, COMPLETIONS, strict=True)]
    assert completion_losses(scorer.language_model, prompts, COMPLETIONS) == pytest.approx(alone, rel=1e-5)


def test_opening_losses_equal_those_of_one_row_at_a_time(scorer, batch_tokens):
    found = opening_losses(scorer.language_model, PROMPTS, COMPLETIONS)
    for opening, row in zip(COMPLETIONS, found, strict=True):
        assert row == pytest.approx([loss_alone(scorer, prompt, opening) for prompt in PROMPTS], rel=1e-5)


@pytest.fixture
def shapes(scorer):
    """The shapes of the token ids that the model is called with."""
    found = []
    embeddings = scorer.language_model.get_input_embeddings()
    hook = embeddings.register_forward_pre_hook(lambda _, inputs: found.append(tuple(inputs[0].shape)))
    yield found
    hook.remove()


def test_the_examples_before_all_prompts_are_computed_once(scorer, shapes):
    completion_losses(scorer.language_model, [EXAMPLES + prompt for prompt in PROMPTS], COMPLETIONS)
    assert shapes == [
        (1, len(EXAMPLES) + 1),
        (4, 6),
    ]  # the prompts begin with the same token, and the longest rest has 2 + 4


def test_each_prompt_is_computed_once_for_all_openings(scorer, shapes):
    opening_losses(scorer.language_model, PROMPTS, COMPLETIONS)
    assert shapes == [(2, 2), (8, 5), (2, 3), (8, 5)]  # of each length, two prompts and their eight pairs with openings


def test_only_long_beginnings_are_shared_and_never_a_last_token():
    assert common_length(PROMPTS) == 0
    assert common_length([EXAMPLES + prompt for prompt in PROMPTS]) == len(EXAMPLES) + 1
    assert common_length([EXAMPLES, EXAMPLES]) == len(EXAMPLES) - 1
    assert common_length([EXAMPLES]) == 0


def test_a_batch_has_at_most_its_tokens_and_all_rows_are_in_one(monkeypatch):
    monkeypatch.setattr(losses, "BATCH_TOKENS", 10)
    lengths = [3, 12, 4, 3, 5, 1]
    batches = list(token_batches(lengths))
    assert sorted(at for batch in batches for at in batch) == list(range(6))
    assert batches == [[5, 0, 3], [2, 4], [1]]
    assert list(token_batches([])) == []
