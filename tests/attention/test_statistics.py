"""Key shares, control spans and z-scores on small arrays."""

import math

import numpy as np
import pytest

from onion_lightning.attention.phrases import Phrase
from onion_lightning.attention.statistics import Span, control_spans, measure, round_values


def phrase(first, stop):
    return Phrase("", 0, 0, first, stop)


def test_the_key_share_excludes_the_first_token():
    attention = np.array([[0.5, 0.2, 0.1, 0.2]])
    statistics = measure(attention, Span(1, 3), [])
    assert statistics.key_share == pytest.approx([0.3])
    assert statistics.first_token_share == pytest.approx([0.5])
    assert np.isnan(statistics.z_score).all()


def test_z_is_in_standard_deviations_of_the_controls():
    attention = np.array([0.0, 0.5, 0.1, 0.2, 0.15, 0.05])
    statistics = measure(attention, Span(1, 2), [Span(2, 3), Span(3, 4), Span(4, 5)])
    assert float(statistics.control_mean) == pytest.approx(0.15)
    assert float(statistics.control_std) == pytest.approx(0.05)
    assert float(statistics.z_score) == pytest.approx(7.0)


def test_controls_have_the_keys_length_and_a_similar_distance_and_overlap_no_phrase():
    query, key = phrase(100, 103), phrase(40, 43)
    excluded = {*range(40, 43), *range(100, 103), 70}  # the key occurs again at 70
    spans = control_spans(query, key, excluded)
    assert all(span.stop - span.first == 3 for span in spans)
    assert all(30 <= 100 - span.first <= 120 for span in spans)
    assert all(excluded.isdisjoint(range(*span)) and span.first > 0 for span in spans)
    distances = [abs(math.log((100 - span.first) / 60)) for span in spans]
    assert distances == sorted(distances)
    assert len(spans) == 62  # of 70 starts, 8 would overlap a phrase


def test_a_short_text_uses_all_available_controls():
    spans = control_spans(phrase(8, 9), phrase(7, 8), {7, 8})
    assert [span.first for span in spans] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.43649999, 0.4365), (0.00042, 0.00042), (7.654321e-07, 7.65432e-07), (0.0, 0.0)],
)
def test_values_are_rounded_to_six_significant_digits(value, expected):
    assert round_values(np.array([value, np.nan])) == [expected, None]
