"""The loss of micro-batches and of held-out splits."""

import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.nn.utils.rnn import pad_sequence

from onion_lightning.data.collate import collate
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.model.loss import CHUNK, HeldOutLoss, supervised_loss
from tests.conftest import LONG, SHORT, batch, module


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_is_the_cross_entropy_of_article_and_eos_with_a_padding_mask(tiny_base, checkpointing):
    """The reference is transformers' own forward pass over padded rows."""
    made = module(tiny_base, load_in="none", gradient_checkpointing=checkpointing)
    micro = batch(made)
    labels = torch.full_like(micro["input_ids"], -100)
    labels[micro["predictors"] + 1] = micro["targets"]
    ids, mask, padded = (
        pad_sequence(values.split(micro["row_lengths"]), batch_first=True, padding_value=padding)
        for values, padding in ((micro["input_ids"], 0), (torch.ones_like(labels), 0), (labels, -100))
    )
    assert mask.sum(1).tolist() == micro["row_lengths"]
    assert 0 < mask.sum() < mask.numel()
    with torch.no_grad():
        logits = made.language_model(ids, attention_mask=mask).logits
    by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), padded[:, 1:].flatten(), reduction="sum")
    assert made.loss_sum(micro).item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("tokens", [1, CHUNK, CHUNK + 7])
def test_the_loss_and_its_gradient_are_those_of_cross_entropy_over_all_logits(tokens):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 30).double().requires_grad_(False)
    hidden, targets = torch.randn(tokens + 3, 8, dtype=torch.float64), torch.randint(0, 30, (tokens,))
    predictors = torch.randperm(tokens + 3)[:tokens]
    ours, plain = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    found = supervised_loss(ours, head, predictors, targets)
    expected = F.cross_entropy(head(plain[predictors]), targets, reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (3 * found).backward()
    (3 * expected).backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-5, atol=1e-6)  # logits are in float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_probabilities_keep_their_gradient_in_16_bit(dtype):
    """All words but the target have a probability of 2e-8, which fp16 rounds to zero; here they are the whole gradient."""
    head = torch.nn.Linear(2, 40_000, bias=False).to(dtype).requires_grad_(False)
    head.weight[:], head.weight[0] = torch.tensor([0.0, 1000.0]), torch.tensor([17.75, 0.0])
    hidden, targets = torch.tensor([[1.0, 0.0]], dtype=dtype, requires_grad=True), torch.tensor([0])
    supervised_loss(hidden, head, torch.tensor([0]), targets).backward()
    rest = 39_999 * math.exp(-17.75)
    assert hidden.grad[0, 1].item() == pytest.approx(1000 * rest / (1 + rest), rel=0.02)


def test_no_gradient_is_computed_where_none_is_wanted(monkeypatch):
    head = torch.nn.Linear(8, 30).requires_grad_(False)
    monkeypatch.setattr("onion_lightning.model.loss.hidden_gradient", pytest.fail)
    with torch.no_grad():
        supervised_loss(torch.randn(4, 8, requires_grad=True), head, torch.arange(4), torch.arange(4))


def test_an_adapted_output_layer_is_trained():
    head = torch.nn.Linear(8, 30)
    supervised_loss(torch.randn(4, 8), head, torch.arange(4), torch.arange(4)).backward()
    assert head.weight.grad.any()


def test_the_other_rows_of_a_micro_batch_do_not_change_the_loss(tiny_base):
    made = module(tiny_base, load_in="none")
    with torch.no_grad():
        together = made.loss_sum(batch(made, [SHORT, LONG]))
        alone = sum(made.loss_sum(batch(made, [text])) for text in (SHORT, LONG))
    assert together == pytest.approx(alone.item(), rel=1e-5)


def test_an_empty_micro_batch_gives_every_adapter_a_gradient_of_zero(tiny_base):
    made = module(tiny_base)
    made.loss_sum(collate([], [], MicroBatch((), 10, 10, 0))).backward()
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters() if p.requires_grad)


def test_the_held_out_loss_is_a_mean_over_tokens_accumulated_in_float64():
    held_out = HeldOutLoss(torch.device("cpu"))
    held_out.update(torch.tensor(2.0**24), 1)
    held_out.update(torch.tensor(1.0), 3)
    assert held_out.sums.tolist() == [2**24 + 1, 4]  # in float32 the 1 would be lost
    small = HeldOutLoss(torch.device("cpu"))
    small.update(torch.tensor(3.0), 2)
    small.update(torch.tensor(3.0), 1)
    found = small.compute(SingleDeviceStrategy(torch.device("cpu")))
    assert found["loss"].item() == 2
    assert found["perplexity"].item() == pytest.approx(7.389056)
    assert all(value.dtype == torch.float32 for value in found.values())
