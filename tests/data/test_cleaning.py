"""Cleaning of single headlines and articles."""

import itertools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion_lightning.data.cleaning import (
    CHANGES,
    LINE_ENDING,
    PASSES,
    WIDE_SPACE,
    ZERO_WIDTH,
    clean_row,
    clean_text,
    has_unprintable,
    headline_key,
    may_have_one_key,
)
from tests.data.conftest import readme_table

PIECES = st.sampled_from(
    [
        *"aé&;#\n\r\t —“\x00",
        "\u200b",
        "\ufeff",
        "\xa0",
        "\u2028",
        "&amp;",
        "&nbsp;",
        "&#8217;",
        "&lt;",
        "Advertisement",
        "e\u0301",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


@pytest.mark.parametrize(
    ("dirty", "clean", "change"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", "line_endings"),
        ("a\xa0b\u3000c \n d ", "a b c\nd", "spaces"),
        ("a\u200bb\ufeffc\u2060d\x00", "abcd", "zero_width"),
        ("Q&amp;A &lt;b&gt; &#8217;&nbsp;x", "Q&A <b> ’ x", "html_entities"),
        ("cafe\u0301", "café", "unicode_form"),
        ("a\n\n\n\n\nb", "a\n\nb", "blank_lines"),
        ("a\nAdvertisement\nb\nADVERTISEMENT:", "a\nb", "advertisement"),
        ("&amp;amp;amp;", "&", "html_entities"),
    ],
)
def test_each_change_has_one_outcome_and_a_name(dirty, clean, change):
    text, changes = clean_text(dirty)
    assert text == clean
    assert change in changes
    assert changes <= CHANGES.keys()


@pytest.mark.parametrize(
    "text", ["AT&T", "R&D;", "&notit", "نص عربي", "👩‍🚀 😀", "می‌خواهم", "½ ™ ﬁ", "null", "NA", "</s>", "### Article:"]
)
def test_text_that_needs_no_cleaning_is_unchanged(text):
    assert clean_text(text) == (text, set())


@given(TEXTS)
def test_cleaning_a_text_is_idempotent(text):
    once = clean_text(text)[0]
    assert clean_text(once) == (once, set())


@given(TEXTS, TEXTS)
def test_cleaning_a_row_is_idempotent(headline, article):
    once = clean_row(headline, article)
    assert clean_row(once.headline, once.article) == (once.headline, once.article, set())


def assert_skipped_passes_change_nothing(text):
    for may_change, passes in PASSES:
        assert may_change(text) or all(change(text) == text for _, change in passes)


@given(TEXTS)
def test_a_pass_is_skipped_only_if_it_would_change_nothing(text):
    assert_skipped_passes_change_nothing(text)


def test_no_arrangement_of_spaces_and_line_ends_is_skipped_wrongly():
    for characters in itertools.product(" \n\xa0b", repeat=5):
        assert_skipped_passes_change_nothing("".join(characters))


def test_every_character_that_is_removed_or_replaced_is_unprintable():
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    for pattern in (ZERO_WIDTH, LINE_ENDING, WIDE_SPACE):
        assert all(map(has_unprintable, pattern.findall(characters)))


@given(
    st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="&\xad\u180e"))
)
def test_words_change_only_to_their_composed_unicode_form(text):
    if text.casefold().rstrip(".:") != "advertisement":
        assert clean_text(text)[0] == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("article", "kept"),
    [
        ("Local Dog Wins The Vote\nTOLEDO, OH—A dog won.", "TOLEDO, OH—A dog won."),
        ("local dog wins the vote!\n\nA dog won.", "A dog won."),
        ("Local Dog Wins The Vote TOLEDO, OH—A dog won.", "TOLEDO, OH—A dog won."),
        ("Local Dog Wins The Vote: A dog won.", "A dog won."),
        ("Local Dog Wins The Vote Of His Life, sources say.", "Local Dog Wins The Vote Of His Life, sources say."),
        ("Local Dog Wins The VoteTOLEDO, OH—A dog won.", "TOLEDO, OH—A dog won."),
        ("Local Dog Wins The Vote\nLocal Dog Wins The Vote\nA dog won.", "A dog won."),
        (
            "Local Dog Wins The Vote in a landslide, sources say.",
            "Local Dog Wins The Vote in a landslide, sources say.",
        ),
        ("Local dog wins the vote, and says so.", "Local dog wins the vote, and says so."),
    ],
)
def test_a_headline_repeated_at_the_start_of_its_article_is_removed(article, kept):
    row = clean_row("Local Dog Wins The Vote", article)
    assert row.article == kept
    assert ("repeated_headline" in row.changes) == (article != kept)


def test_a_repeated_headline_with_different_quotes_is_removed():
    row = clean_row("Nation’s Dogs Demand More Walks", "Nation's Dogs Demand More Walks WASHINGTON—Dogs said so.")
    assert row.article == "WASHINGTON—Dogs said so."


def test_headlines_are_compared_without_case_quotes_and_spacing():
    assert headline_key("Man’s “Dog” Wins") == headline_key("man's   'dog' wins")
    assert headline_key("NA") != headline_key("null")
    assert len({headline_key(f"Student Gets {grade}") for grade in ("A", "A+", "A-", "C#")}) == 4
    assert headline_key("की") != headline_key("का")
    assert headline_key("!!") != headline_key("??")


@pytest.mark.parametrize("start", [" “", "'.", "\t", "\x1c", "…"])
@given(headline=TEXTS | st.text(alphabet=" .'“aAbé\u0301", max_size=4), more=TEXTS)
def test_a_first_line_with_the_same_key_as_the_headline_is_always_compared(start, headline, more):
    for first in (start + headline, headline.upper(), headline + more):
        assert may_have_one_key(first, headline) or headline_key(first) != headline_key(headline)


def test_the_readme_lists_every_change():
    assert readme_table("Cleaning") == CHANGES
