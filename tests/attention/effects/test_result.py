"""Statistics of effects: rank p-values, too few controls, and the window that was chosen because it is the strongest."""

import dataclasses
import json

import numpy as np
import pytest

from onion_lightning.attention.effects.passes import Change
from onion_lightning.attention.effects.result import Comparison, Effect, SystemEffects, WindowEffect
from onion_lightning.attention.effects.words import describe, finding, notes


def test_a_p_value_is_the_rank_of_the_size_among_the_controls():
    controls = (0.1, -0.2, 0.3, -1.5, *[0.0] * 15)
    assert Effect(1.0, controls).p == 2 / 20  # one control is larger, in the other direction
    assert Effect(-2.0, controls).p == 1 / 20
    assert Effect(0.0, controls).p == 1


def test_fewer_than_19_controls_give_no_p_value_and_fewer_than_3_no_mean():
    assert Effect(1.0, (0.0,) * 18).p is None
    assert Effect(1.0, (0.0,) * 18).mean == 0
    assert Effect(1.0, (0.0,) * 2).mean is Effect(1.0, (0.0,) * 2).std is None
    assert Effect(1.0, ()).to_json() == {"effect": 1.0, "control_mean": None, "control_std": None, "p": None}


def system(*windows: tuple[float, list[float]]) -> SystemEffects:
    """Return effects in windows of two layers, each with the query's effect of the key and of the controls."""
    compared = [
        Comparison.of([Change(value, 0.5, 0.1), *(Change(one, 0, 0) for one in controls)], follows=True)
        for value, controls in windows
    ]
    return SystemEffects(
        log_probability=-1.0,
        following_log_probability=-2.0,
        rounding=0.0,
        knockout=compared[0],
        windows=[WindowEffect(first, first + 1, one) for first, one in enumerate(compared)],
        heads=np.array([[0.1, -0.25]]),
        top_heads=[(0, 1, compared[0])],
        values=compared[0],
        replacement=None,
        phrases={},
        restored=None,
        restoring=[],
        gradient_times_input=np.array([0.1, 0.2]),
        rank_correlation=0.5,
    )


def test_the_strongest_window_is_compared_with_the_strongest_of_each_control():
    effects = system((0.2, [0.0] * 18 + [0.9]), (-1.0, [0.1] * 18 + [0.0]))
    assert effects.strongest_window.first == 1
    assert effects.largest.value == -1.0
    assert effects.largest.controls == (0.1,) * 18 + (0.9,)
    assert effects.largest.p == 1 / 20
    assert effects.strongest_window.effect.query.p == 1 / 20


def test_the_sentence_names_the_layers_the_nats_and_the_controls():
    effects = system((0.2, [0.0] * 19), (1.299, [0.1] * 19))
    assert finding(effects, "San Francisco", "University of California") == (
        "Cutting the edges from “San Francisco” to “University of California” in layers 1 to 2 makes “San Francisco”"
        " 1.30 nats less likely (controls: 0.10 ± 0.00; p = 0.05)."
    )
    assert describe(Effect(-0.5, ())) == "0.50 nats more likely"


def test_what_is_missing_is_said():
    effects = system((0.2, [0.0] * 4))
    lines = list(notes(effects, 4))
    assert "p-values need 19 control spans, and this text has 4: give a longer text" in lines
    assert any(line.startswith("replacement: no phrase of the list") for line in lines)
    assert any("its effect: 0.50" in line for line in lines)
    assert len(list(notes(dataclasses.replace(effects, rank_correlation=float("nan")), 19))) == 1
    assert not any("rounding" in line for line in lines)
    rounded = notes(dataclasses.replace(effects, rounding=0.12), 19)
    assert any(line.startswith("rounding alone changes the log-probability by 0.12 nats") for line in rounded)
    replaced = dataclasses.replace(effects, replacement=effects.knockout, restored="a bakery")
    assert any("with “a bakery” in its place" in line for line in notes(replaced, 19))


def test_the_last_layer_where_restoring_undoes_half_of_a_replacement_is_found():
    effects = dataclasses.replace(system((0.2, [])), phrases={"a bakery": 1.0}, restored="a bakery")
    undone = [1.0, 0.6, 0.4, -0.5, 0.1]
    layers = [
        WindowEffect(layer, layer, Comparison.of([Change(value, 0, 0)], True)) for layer, value in enumerate(undone)
    ]
    assert dataclasses.replace(effects, restoring=layers).last_restoring.first == 3
    assert dataclasses.replace(effects, restoring=layers[4:]).last_restoring.first == 4
    assert system((0.2, [])).last_restoring is None


def test_the_figures_become_json_without_nan():
    effects = dataclasses.replace(system((0.2, [0.0] * 4)), rank_correlation=float("nan"))
    content = json.loads(json.dumps(effects.to_json(), allow_nan=False))
    assert content["rank_correlation"] is None
    assert content["knockout"]["query"] == {"effect": 0.2, "control_mean": 0.0, "control_std": 0.0, "p": None}
    assert content["windows"][0]["first_layer"] == 0
    assert content["heads"] == [[0.1, -0.25]]


@pytest.mark.parametrize("follows", [False, True])
def test_nothing_after_the_query_gives_no_figure_for_what_follows(follows):
    comparison = Comparison.of([Change(1.0, 0.0, 0.2)], follows)
    assert (comparison.following is None) is not follows
