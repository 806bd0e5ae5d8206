"""Interventions whose effect is known: on a model built by hand, and on a key that does not matter."""

import numpy as np
import pytest
import torch

from onion_lightning.attention.effects.experiment import EffectSettings, Spans, measure_effects
from onion_lightning.attention.effects.intervention import Swap
from onion_lightning.attention.effects.result import SystemEffects
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.attention.statistics import Span
from onion_lightning.model.base_model import load_model
from tests.attention.effects.conftest import COPYING, HEADS, Copier

ROUNDING = 1e-5  # nats


def measured(copier: Copier, spans: Spans | None = None) -> SystemEffects:
    spans = spans or copier.spans
    swaps = {"one": Swap(spans.key.first, (8,)), "other": Swap(spans.key.first, (11,))}
    share = np.arange(2.0 * HEADS).reshape(2, HEADS)
    return measure_effects(copier.model, copier.ids, spans, swaps, EffectSettings(window=1), share, "base")


@pytest.fixture
def effects(copier):
    return measured(copier)


def test_cutting_the_edges_of_the_copying_head_alone_removes_the_prediction(effects):
    assert effects.log_probability > -0.1  # the copy is predicted
    assert effects.heads[0, COPYING] > 2
    others = np.delete(effects.heads.ravel(), COPYING)
    assert np.abs(others).max() < ROUNDING
    layer, head, top = effects.top_heads[0]
    assert (layer, head) == (0, COPYING)
    assert top.query.value == effects.heads[0, COPYING]
    assert top.query.p < 0.05 > ROUNDING > max(map(abs, top.query.controls))


def test_the_window_of_the_copying_layer_has_the_whole_effect(effects):
    first, second = (window.effect for window in effects.windows)
    assert first.query.value == pytest.approx(effects.knockout.query.value)
    assert abs(second.query.value) < ROUNDING
    assert (effects.strongest_window.first, effects.strongest_window.last) == (0, 0)
    assert effects.largest.p == pytest.approx(1 / (1 + len(effects.largest.controls)))


def test_zeroed_values_and_other_tokens_remove_the_prediction_and_controls_do_not(effects):
    for comparison in (effects.values, effects.replacement):
        assert comparison.query.value > 2
        assert max(map(abs, comparison.query.controls)) < ROUNDING
        assert comparison.query.p <= 0.05


def test_the_original_stream_of_the_key_undoes_a_replacement_until_it_has_been_copied(effects):
    before_copying, after_copying = (layer.effect.query for layer in effects.restoring)
    whole = effects.phrases[effects.restored]
    assert before_copying.value == pytest.approx(whole)
    assert abs(after_copying.value) < ROUNDING
    assert max(map(abs, before_copying.controls)) < ROUNDING
    assert before_copying.p <= 0.05
    assert effects.last_restoring.first == 0


def test_the_gradient_times_input_points_to_the_key(copier, effects):
    gradient = effects.gradient_times_input
    assert gradient.shape == (copier.spans.query.stop - 1,)
    assert np.abs(gradient[1:-1]).argmax() + 1 == copier.spans.key.first


def test_a_key_that_nothing_depends_on_cannot_be_told_from_its_controls(copier):
    query, key, controls = copier.spans
    other = controls[7]
    spans = Spans(query, other, [span for span in controls if span != other])
    found = measured(copier, spans)
    assert abs(found.knockout.query.value) < ROUNDING
    assert found.knockout.query.p > 0.05
    assert key not in spans.controls


def test_every_intervention_is_repeated_on_all_controls(copier, effects):
    count = len(copier.spans.controls)
    whole = (effects.knockout, effects.values, effects.replacement, *(head for _, _, head in effects.top_heads))
    for comparison in (*whole, *(one.effect for one in [*effects.windows, *effects.restoring])):
        assert len(comparison.query.controls) == len(comparison.divergence.controls) == count > 19


@pytest.mark.parametrize(("dtype", "low", "high"), [(torch.float32, 0, 1e-4), (torch.bfloat16, 1e-3, 0.5)])
def test_what_rounding_alone_changes_is_reported(tiny_base, tokenizer, dtype, low, high):
    model = load_model(str(tiny_base), "none", torch.device("cpu"), dtype)
    text = "Eggville said on Tuesday that the council of the town had met in Eggville and then moved on"
    effects = attend(model, tokenizer, text, "Eggville#2", "council", effect=EffectSettings()).effects["base"]
    assert low <= effects.rounding < high


def test_in_a_random_model_most_keys_cannot_be_told_from_their_controls(base, tokenizer):
    text = " ".join(f"egg fog mayor council town number {number}" for number in range(12)) + " ended here"
    found = []
    for number in range(2, 10):
        effects = attend(base, tokenizer, text, "ended", f"number {number}", effect=EffectSettings()).effects["base"]
        assert len(effects.knockout.query.controls) >= 19
        found.append(effects.knockout.query.p)
    assert sum(p > 0.05 for p in found) >= 6
    assert len(set(found)) > 4


def test_a_query_right_after_the_key_keeps_the_edges_within_the_key(copier):
    """The key's last token predicts the query; cut off from itself, it would see only tokens that do not matter."""
    query, _, controls = copier.spans
    spans = Spans(query, Span(query.first - 1, query.first), controls[:3])
    found = measured(copier, spans)
    assert found.knockout.query.value == 0
