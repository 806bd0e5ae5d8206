"""The loss of micro-batches and of held-out splits."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import SingleDeviceStrategy
from transformers import MistralConfig, MistralForCausalLM

from onion_lightning.data.collate import collate
from onion_lightning.data.sampler import MicroBatch
from onion_lightning.model.base_model import causal_attention
from onion_lightning.model.loss import HeldOutLoss
from tests.conftest import LONG, SHORT, batch, module


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_loss_is_the_cross_entropy_of_article_and_eos_with_a_padding_mask(tiny_base, checkpointing):
    """The mask is that of transformers; the module needs none, because rows are padded on the right."""
    made = module(tiny_base, load_in="none", gradient_checkpointing=checkpointing)
    micro = batch(made)
    mask = torch.zeros_like(micro["input_ids"])
    labels = torch.full_like(micro["input_ids"], -100)
    labels.view(-1)[micro["predictors"] + 1] = micro["targets"]
    for row, length in zip(mask, (labels != -100).cumsum(1).argmax(1) + 1, strict=True):
        row[:length] = 1
    assert mask.sum(1).tolist() == [int(mask[0].sum()), mask.shape[1]]
    with torch.no_grad():
        logits = made.language_model(micro["input_ids"], attention_mask=mask).logits
    by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    assert made.loss_sum(micro).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert made.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("window", [8, 64, None])
def test_hidden_states_without_a_mask_are_those_of_the_model_also_if_its_layers_see_only_a_window(window):
    """transformers' own masks are the reference; a window of 8 tokens matters for rows of 20."""
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = MistralConfig(vocab_size=100, hidden_size=64, intermediate_size=128, sliding_window=window, **shape)
    model, ids = MistralForCausalLM(config).eval(), torch.randint(0, 100, (2, 20))
    with torch.no_grad():
        expected = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        with causal_attention(model, 20):
            found = model.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert model.config._attn_implementation == "sdpa"


def test_padding_does_not_change_the_loss(tiny_base):
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
