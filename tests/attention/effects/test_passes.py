"""Forward passes with interventions: those that change nothing, and the others compared with passes of transformers."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from onion_lightning.attention.effects import passes as passes_module
from onion_lightning.attention.effects.gradient import gradient_times_input
from onion_lightning.attention.effects.intervention import Cut, Intervention, Restore, Swap
from onion_lightning.attention.effects.passes import Change, Passes
from onion_lightning.attention.phrases import tokenize
from onion_lightning.attention.statistics import Span
from tests.attention.conftest import TEXT

QUERY, KEY = Span(30, 32), Span(12, 15)


@pytest.fixture
def ids(tokenizer):
    return [token.id for token in tokenize(tokenizer, TEXT)][:38]


def changes(passes: Passes, *interventions: Intervention) -> list[Change]:
    return passes.run(interventions, lambda count: None)


def test_interventions_that_change_nothing_reproduce_the_untouched_pass_bit_for_bit(tuned, ids):
    passes = Passes(tuned.language_model, ids, QUERY, KEY.first, range(*KEY))
    nothing = [
        Intervention(),
        Intervention(swap=Swap(KEY.first, tuple(ids[KEY.first : KEY.stop]))),
        Intervention(restore=Restore(KEY, 0)),
        Intervention(restore=Restore(KEY, 1)),
        Intervention(Cut(KEY, range(0))),
    ]
    several = nothing * (2 + passes.size // len(nothing))  # more than one batch, each in every row
    assert set(changes(passes, *several)) == {Change(0.0, 0.0, 0.0)}
    assert changes(passes, Intervention(Cut(KEY, range(2)))) != [Change(0.0, 0.0, 0.0)]


def test_a_row_does_not_depend_on_the_others_of_its_batch(base, ids):
    passes = Passes(base, ids, QUERY, KEY.first)
    one, other = Intervention(Cut(KEY, range(2))), Intervention(zeroed=KEY)
    [alone] = changes(passes, one)
    assert changes(passes, one, other, other)[0] == alone
    assert changes(passes, other, one)[1] == pytest.approx(alone, abs=1e-5)


def log_probabilities(model, ids, blocked: list[tuple[range, range]], swap: Swap | None = None) -> torch.Tensor:
    """Compute the log-probabilities of the tokens after the first with a mask, by transformers alone."""
    if swap is not None:
        ids = [*ids[: swap.first], *swap.ids, *ids[swap.first + len(swap.ids) :]]
    mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)
    for readers, seen in blocked:
        mask[readers.start : readers.stop, seen.start : seen.stop] = -math.inf
    with torch.no_grad():
        logits = model(torch.tensor([ids]), attention_mask=mask[None, None]).logits[0]
    return logits.log_softmax(-1)


def expected_change(model, ids, untouched: torch.Tensor, changed: torch.Tensor) -> Change:
    targets = torch.tensor(ids[QUERY.first :])[:, None]
    lost = (untouched - changed)[QUERY.first - 1 : -1].gather(1, targets)[:, 0]
    before, after = untouched[QUERY.stop - 1], changed[QUERY.stop - 1]
    count = QUERY.stop - QUERY.first
    return Change(float(lost[:count].sum()), float(lost[count:].sum()), float((before.exp() * (before - after)).sum()))


def test_knockout_in_all_layers_equals_a_pass_of_transformers_with_these_edges_masked(base, ids):
    found = changes(Passes(base, ids, QUERY, QUERY.first - 1), Intervention(Cut(KEY, range(2))))
    untouched = log_probabilities(base, ids, [])
    changed = log_probabilities(base, ids, [(range(QUERY.first - 1, QUERY.stop), range(*KEY))])
    expected = expected_change(base, ids, untouched, changed)
    assert abs(expected.query) > 1e-3
    assert found[0] == pytest.approx(expected, abs=2e-5)


def test_other_tokens_in_the_place_of_the_key_equal_a_pass_of_transformers_on_them(base, ids):
    swap = Swap(KEY.first, (40, 41, 42))
    found = changes(Passes(base, ids, QUERY, KEY.first), Intervention(swap=swap))
    untouched = log_probabilities(base, ids, [])
    expected = expected_change(base, ids, untouched, log_probabilities(base, ids, [], swap))
    assert abs(expected.query) > 1e-3
    assert found[0] == pytest.approx(expected, abs=2e-5)


def test_the_streams_of_all_replaced_tokens_restored_before_the_first_layer_undo_a_replacement(base, ids):
    passes = Passes(base, ids, QUERY, KEY.first, range(*KEY))
    swap = Swap(KEY.first, (40, 41, 42))
    replaced, restored = changes(passes, Intervention(swap=swap), Intervention(swap=swap, restore=Restore(KEY, 0)))
    assert abs(replaced.query) > 1e-3
    assert restored == pytest.approx((0, 0, 0), abs=1e-5)


def test_each_head_has_an_effect_of_its_own(base, ids):
    heads = [Intervention(Cut(KEY, range(1, 2), head)) for head in range(4)]
    found = changes(Passes(base, ids, QUERY, QUERY.first - 1), *heads, Intervention(Cut(KEY, range(1, 2))))
    assert len({change.query for change in found}) == 5
    assert all(change.divergence > 0 for change in found)


def test_a_prefix_that_is_computed_once_changes_nothing(base, ids, monkeypatch):
    interventions = (Intervention(Cut(KEY, range(2))), Intervention(Cut(KEY, range(1), 3)))
    shared = Passes(base, ids, QUERY, QUERY.first - 1)
    assert shared.cache is not None
    monkeypatch.setattr(passes_module, "can_share", lambda model, tokens: False)
    whole = Passes(base, ids, QUERY, QUERY.first - 1)
    assert whole.cache is None
    for one, other in zip(changes(shared, *interventions), changes(whole, *interventions), strict=True):
        assert one == pytest.approx(other, abs=2e-5)
    assert shared.log_probabilities == pytest.approx(whole.log_probabilities, abs=1e-4)


def test_logits_of_some_rows_at_a_time_are_those_of_all(base, ids, monkeypatch):
    interventions = [Intervention(Cut(KEY, range(2), head)) for head in range(4)]
    passes = Passes(base, ids, QUERY, QUERY.first - 1)
    together = changes(passes, *interventions)
    monkeypatch.setattr(passes_module, "MOST_LOGITS", 25)  # two of the rows
    apart = Passes(base, ids, QUERY, QUERY.first - 1)
    assert apart.size > 4
    for one, other in zip(changes(apart, *interventions), together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert len({change.query for change in together}) == 4


def test_a_large_prefix_is_kept_in_16_bit(base, ids, monkeypatch):
    exact = changes(Passes(base, ids, QUERY, QUERY.first - 1), Intervention(Cut(KEY, range(2))))
    monkeypatch.setattr(passes_module, "LARGEST_PREFIX", 0)
    passes = Passes(base, ids, QUERY, QUERY.first - 1)
    assert {layer.keys.dtype for layer in passes.cache.layers} == {torch.bfloat16}
    assert changes(passes, Intervention(Cut(KEY, range(2))))[0] == pytest.approx(exact[0], abs=2e-2)
    assert set(changes(passes, Intervention())) == {Change(0.0, 0.0, 0.0)}


def test_the_model_is_left_as_it_was(tuned, ids):
    model = tuned.language_model
    with torch.no_grad():
        before = model(torch.tensor([ids])).logits
    changes(Passes(model, ids, QUERY, KEY.first, range(*KEY)), Intervention(zeroed=KEY, restore=Restore(KEY, 1)))
    gradient_times_input(model, ids, QUERY)
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([ids])).logits, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in vars(layer) for layer in model.model.layers)


@pytest.mark.parametrize("layers", [1, 2, 5, 9])
def test_gradient_times_input_equals_that_of_plain_autograd(base, ids, layers):
    config = copy.deepcopy(base.config)
    config.num_hidden_layers = layers
    torch.manual_seed(2)
    model = LlamaForCausalLM(config).eval()
    embeddings = model.get_input_embeddings()(torch.tensor([ids[: QUERY.stop - 1]])).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings).logits[0, QUERY.first - 1 :]
    targets = torch.tensor(ids[QUERY.first : QUERY.stop])
    log_probability = -torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    log_probability.backward()
    expected = (embeddings.grad * embeddings).sum(-1)[0].detach().numpy()
    found = gradient_times_input(model, ids, QUERY)
    assert found.times_input == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 1e-3
    assert found.log_probability == pytest.approx(float(log_probability.detach()), abs=1e-5)


def test_8_bit_weights_give_gradients_of_the_embeddings(tuned, ids):
    found = gradient_times_input(tuned.language_model, ids, QUERY).times_input
    assert found.shape == (QUERY.stop - 1,)
    assert (abs(found[1:]) > 0).all()
