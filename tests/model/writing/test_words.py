"""Loops, checked by hand."""

from onion_lightning.model.writing.words import is_looping, words_of


def test_eight_repeated_words_are_a_loop_and_seven_are_not():
    eight = "one two three four five six seven eight"
    assert is_looping(words_of(f"{eight} and then {eight.upper()}"))
    seven = " ".join(eight.split()[:7])
    assert not is_looping(words_of(f"{seven} and then {seven}"))
