"""Differences between raw and cleaned text."""

from hypothesis import given
from hypothesis import strategies as st

from onion_lightning.data.cleaning.text import clean_text
from onion_lightning.preview.differences import MAX_COMPARED, compare, one_line, visible


@given(st.text(), st.text())
def test_the_segments_are_both_texts(before, after):
    segments = compare(before, after)
    assert "".join(segment.before for segment in segments) == before
    assert "".join(segment.after for segment in segments) == after


def test_only_what_cleaning_changed_is_a_difference():
    raw = "It\u200b was an egg.\r\nIt&rsquo;s not."
    changed = [segment for segment in compare(raw, clean_text(raw)[0]) if not segment.is_same]
    assert [(one.before, one.after) for one in changed] == [("\u200b", ""), ("\r", ""), ("&rsquo;", "’")]


def test_the_beginnings_of_long_texts_are_compared_and_the_end_is_no_difference():
    text = "egg wins. " * MAX_COMPARED
    segments = compare("\u200b" + text, text)
    assert [segment.before for segment in segments if not segment.is_same] == ["\u200b"]
    assert len("".join(segment.before for segment in segments)) <= MAX_COMPARED


def test_what_cannot_be_seen_is_made_visible():
    assert visible("a\r\nb\tc\u200bd\u00a0e\x1b") == "a␍⏎b⇥c[U+200B]d[U+00A0]e[U+001B]"


def test_one_line_cuts_a_text_and_shows_control_characters():
    assert one_line("  an\n egg\x1b[31m ", 50) == "an egg[U+001B][31m"
    assert one_line("egg " * 100, 10) == "egg egg e…"
    assert one_line("x" * 10, 10) == "x" * 10
