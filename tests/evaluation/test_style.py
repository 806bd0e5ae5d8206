"""Measures of texts, by hand."""

import pytest

from onion_lightning.evaluation.style import (
    content_words,
    distance,
    distinct,
    is_looping,
    measure_text,
    recall,
    words_of,
)


def test_eight_words_that_come_twice_are_a_loop_and_seven_are_not():
    eight = "one two three four five six seven eight"
    assert is_looping(words_of(f"{eight} and then {eight.upper()}"))
    seven = " ".join(eight.split()[:7])
    assert not is_looping(words_of(f"{seven} and then {seven}"))


def test_distinct_is_the_share_of_different_ngrams_of_the_opening():
    assert distinct("a b a b".split(), 1) == 0.5
    assert distinct("a b a b".split(), 2) == pytest.approx(2 / 3)
    assert distinct(["a"], 2) == 0
    assert distinct([*map(str, range(50)), *["x"] * 50], 1) == 1


def test_recall_is_the_share_of_content_words_taken_up():
    assert content_words("The Man's Eggs Are In Dallas") == {"man", "egg", "dalla"}
    assert recall("The Man's Eggs Are In Dallas", words_of("A man ate one egg.")) == pytest.approx(2 / 3)
    assert content_words("This News Doesn't Know If It's What We'll Say") == {"new", "know", "say"}
    assert recall("It Is What It Is", []) == 1


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
def test_the_style_card(text, name, value):
    assert measure_text("Egg", text)[name] == value


def test_distance_is_0_to_itself_and_the_mean_difference_otherwise():
    card = measure_text("Egg", "TOLEDO, OH—An egg won. It was glad.")
    assert distance(card, card) == 0
    other = card | {"dateline": 0, "words_per_sentence": card["words_per_sentence"] / 2}
    assert distance(other, card) == pytest.approx((1 + 0.5) / 7)
