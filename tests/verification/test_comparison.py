"""Differences between two forms of a model, and the first stage in which they differ."""

import numpy as np
import pytest

from onion_lightning.verification.comparison import Limits, compare, held_out_loss
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Encoded, Reading, Written

PROBES = [Probe("Egg Wins", "An egg.", [1, 5], [7, 8, 2]), Probe("Egg Loses", "No egg.", [1, 6], [9, 2])]
LOG_P = [np.array([-1.0, -2.0, -3.0]), np.array([-4.0, -0.5])]


def reading(name="reference", log_p=LOG_P, texts=("An egg.", "No egg."), **encoded):
    rows = [
        Encoded(
            **{"prompt": probe.prompt, "article": probe.completion[:-1], "same_template": probe.prompt, "chat": None}
            | encoded
        )
        for probe in PROBES
    ]
    return Reading(name, rows, log_p, [Written(text, text == "An egg.") for text in texts])


def compared(other, **more):
    return compare(other, reading(), PROBES, **{"limits": Limits(loss=0.02, token=0.02), "seed": 0} | more)


def test_equal_readings_differ_in_nothing():
    found = compared(reading("other"))
    assert (found.form, found.reference, found.stage) == ("other", "reference", None)
    assert (found.same_prompts, found.same_articles, found.same_chats) == (2, 2, None)
    assert (found.largest, found.mean, found.loss.value) == (0.0, 0.0, 0.0)
    assert found.diverges == [None, None]
    assert found.ended == 0.5


def test_differences_of_log_probabilities_are_over_all_tokens():
    found = compared(reading(log_p=[LOG_P[0] + [0.0, 0.1, -0.3], LOG_P[1] + [0.1, 0.0]]))
    assert found.largest == pytest.approx(0.3)
    assert found.mean == pytest.approx(0.1)
    assert found.loss.value == pytest.approx(0.1 / 5)  # -log p grew by 0.2 and -0.1
    assert found.loss.interval.low <= found.loss.value <= found.loss.interval.high
    assert found.stage == "weights"
    assert compared(reading(log_p=[LOG_P[0] + 0.01, LOG_P[1] - 0.01])).stage is None


def test_rounding_in_bfloat16_may_change_single_tokens_but_not_the_loss():
    wide = {"limits": Limits(loss=0.02, token=0.1)}
    assert compared(reading(log_p=[LOG_P[0] + [0.1, -0.1, 0.0], LOG_P[1] + [0.1, -0.1]]), **wide).stage is None
    assert compared(reading(log_p=[LOG_P[0] + [0.1, -0.1, 0.0], LOG_P[1] + [0.1, 0.1]]), **wide).stage == "weights"
    assert compared(reading(log_p=[LOG_P[0] + [0.2, -0.2, 0.0], LOG_P[1] + [0.1, -0.1]]), **wide).stage == "weights"


def test_a_probability_that_is_not_a_number_is_a_difference():
    assert compared(reading(log_p=[LOG_P[0] * np.nan, LOG_P[1]])).stage == "weights"


def test_the_place_where_greedy_articles_diverge_is_counted_in_characters():
    assert compared(reading(texts=("An ox.", "No egg. Not one."))).diverges == [3, 7]


@pytest.mark.parametrize(
    ("encoded", "stage"),
    [
        ({"prompt": [1, 4]}, "template"),
        ({"chat": [1, 4]}, "template"),
        ({"same_template": [5]}, "tokenizer"),
        ({"prompt": [5], "same_template": [5]}, "tokenizer"),
        ({"article": [7]}, "tokenizer"),
        ({"prompt": None, "article": None, "same_template": None}, None),
    ],
)
def test_the_first_stage_that_differs_is_named_even_if_probabilities_do_too(encoded, stage):
    assert compared(reading(**encoded)).stage == stage
    assert compared(reading(log_p=[values - 1 for values in LOG_P], **encoded)).stage == (stage or "weights")


def test_one_adapter_weight_that_was_changed_is_a_difference():
    assert compared(reading(), adapters=0).stage is None
    assert compared(reading(), adapters=1).stage == "weights"


def test_a_form_without_log_probabilities_is_compared_in_the_rest():
    found = compared(reading(log_p=None))
    assert (found.largest, found.mean, found.loss, found.stage) == (None, None, None, None)
    assert held_out_loss(reading(log_p=None), 0) is None


def test_the_held_out_loss_is_a_mean_over_tokens():
    loss = held_out_loss(reading(), 0)
    assert loss.value == pytest.approx(10.5 / 5)
    assert loss.interval.low <= loss.value <= loss.interval.high
