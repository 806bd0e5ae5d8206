"""Measures of an article, checked by hand."""

from dataclasses import asdict

import pytest

from onion_lightning.evaluation.style import (
    content_words,
    distinct,
    headline_recall,
    measure_text,
    style_distance,
)
from onion_lightning.model.writing.words import words_of


def test_distinct_is_the_share_of_unique_ngrams_in_the_first_50_words():
    assert distinct("a b a b".split(), 1) == 0.5
    assert distinct("a b a b".split(), 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) == 0
    assert distinct([*map(str, range(50)), *["x"] * 50], 1) == 1


def test_headline_recall_is_the_share_of_content_words_that_are_reused():
    assert content_words("The Man's Eggs Are In Dallas") == {"man", "egg", "dalla"}
    assert headline_recall("The Man's Eggs Are In Dallas", words_of("A man ate one egg.")) == pytest.approx(2 / 3)
    assert content_words("This News Doesn't Know If It's What We'll Say") == {"new", "know", "say"}
    assert headline_recall("It Is What It Is", []) == 1


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("TOLEDO, OH—An egg won.", "dateline", 1),
        ("WASHINGTON—An egg won.", "dateline", 1),
        ("ST. PAUL, Minn. – An egg won.", "dateline", 1),
        ("MONTRÉAL, Québec (AP) - An egg won.", "dateline", 1),
        ("An egg won—twice.", "dateline", 0),
        ("TV-watching eggs won.", "dateline", 0),
        ("FBI-led eggs won.", "dateline", 0),
        ("Text.\nTOLEDO, OH—An egg won.", "dateline", 0),
        ("“I am not an egg,” said a local egg.", "spokesperson", 1),
        ('A source added: "It was not an egg at all."', "spokesperson", 1),
        ("He called it “an omelette of sorts” in June.", "spokesperson", 0),
        ('"I said no" to the very long offer of "eggs" in June.', "spokesperson", 0),
        ('"I said no to it," an egg said. "Never."', "spokesperson", 1),
        ("It won. At press time, the egg had left.", "closing_turn", 1),
        ("At press time, it had left. " + "And more was to come of it. " * 10, "closing_turn", 0),
        ("One two three. Four five six seven!", "words_per_sentence", 3.5),
        ("One two three. Four five six seven eight nine", "words_per_sentence", 3),
        ("One two three", "words_per_sentence", 3),
        ("", "words_per_sentence", 0),
    ],
)
def test_measures_of_a_text(text, name, value):
    assert getattr(measure_text("Egg", text), name) == value


def test_style_distance_is_0_for_equal_styles_and_the_mean_gap_otherwise():
    style = asdict(measure_text("Egg", "TOLEDO, OH—An egg won. It was glad."))
    assert style_distance(style, style) == 0
    other = style | {"dateline": 0, "words_per_sentence": style["words_per_sentence"] / 2}
    assert style_distance(other, style) == pytest.approx((1 + 0.5) / 7)
