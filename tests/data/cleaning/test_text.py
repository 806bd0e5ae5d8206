"""Cleaning of single texts."""

import itertools
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onion_lightning.data.cleaning.markup import may_have_markdown
from onion_lightning.data.cleaning.rows import CHANGES, clean_row
from onion_lightning.data.cleaning.text import (
    LINE_ENDING,
    PASSES,
    WIDE_SPACE,
    ZERO_WIDTH,
    clean_text,
    count_meaningless,
    has_unprintable,
    may_be_mojibake,
    repair_encoding,
)
from tests.data.conftest import misread

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
        "<p>",
        "</b>",
        "<",
        "[a](/b)",
        *("*", "**", "_", "`", "~~", "# ", "> ", "\\", "```\n", "![a](/b)", "[a]: /b\n", "=\n", "egg"),
        "Ã©",
        "â\x80\x99",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


@pytest.mark.parametrize(
    ("dirty", "clean", "change"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", "line_endings"),
        ("a\xa0b\u3000c \n d ", "a b c\nd", "spaces"),
        ("a\u200bb\ufeffc\u2060d\x00", "abcd", "zero_width"),
        ("Q&amp;A &lt;Bob&gt; &#8217;&nbsp;x", "Q&A <Bob> ’ x", "html_entities"),
        ("it\u00e2\u0080\u0099s", "it’s", "encoding"),
        ("Area Manâ€™s Egg", "Area Man’s Egg", "encoding"),
        ("a &lt;b&gt;bold&lt;/b&gt; egg", "a bold egg", "html_tags"),
        ("an [egg](https://example.com/egg_(food)) won", "an egg won", "markdown"),
        ("# Egg\n\nAn *egg* won.", "Egg\n\nAn egg won.", "markdown"),
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
    assert clean_row(once.headline, once.article)[:3] == (once.headline, once.article, set())


@pytest.mark.parametrize("wrong", ["sloppy-windows-1252", "latin-1", "mac_roman"])  # the first as browsers read it
@pytest.mark.parametrize(
    "text", ["“It’s the egg,” she said.", "Der Bürgermeister fährt früh.", "L’été déjà, à côté", "El año pasado habló"]
)
def test_text_decoded_with_the_wrong_encoding_is_repaired(text, wrong):
    broken = text.encode().decode(wrong)
    assert clean_text(broken)[0] == text
    assert clean_text(f"An egg.\n{broken}\nA dog’s egg.")[0] == f"An egg.\n{text}\nA dog’s egg."


THAI = "ไข่ชนะการเลือกตั้งวันนี้ ภาษาไทยเป็นเรื่องตลกมาก"


@pytest.mark.parametrize(
    "text",
    [
        misread(THAI, "cp874"),
        "“Ő” and caf\u00c3\u00a9\nĄ \x93egg\x94",
        "cafÃ©\n" + misread(THAI, "cp874"),
        "cafÃ©\nâ‚¬â„Ã„Å“Ä",
    ],
)
def test_text_that_cannot_be_repaired_as_a_whole_is_left_as_it_is(text):
    assert repair_encoding(text) == text


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("It’s the cafÃ©", "It’s the café"),  # both in one line
        ("It’s the \x93egg\x94 of São", "It’s the “egg” of São"),
        ("An egg cost 5â‚¬.", "An egg cost 5€."),
    ],
)
def test_a_stray_misread_character_is_repaired(broken, text):
    assert clean_text(broken) == (text, {"encoding"})


def test_characters_without_a_meaning_are_counted_unless_they_can_be_repaired():
    assert count_meaningless("“It’s”\n\tthe egg 🥚") == 0
    assert count_meaningless("It’s the \x93egg\x94") == 0
    assert count_meaningless("ไข\ufffd egg \u0378 \x85") == 2
    assert count_meaningless(misread(THAI, "cp874")) > len(THAI) / 4


PROSE = st.lists(
    st.sampled_from(
        "egg “egg” l’été naïve Ärger Übergrößen señor ¿qué? œuvre čtvrtek żółw größer – — … „Ei“ «oeuf» яйцо "
        "mañana café’s 80° ½ 5€ £3 São Tomé ÉTÉ Ça À".split()
    ),
    min_size=1,
).map(" ".join)


@given(PROSE)
def test_prose_that_was_never_broken_keeps_its_characters(text):
    assert "encoding" not in clean_text(text)[1]


@given(TEXTS)
def test_a_change_that_is_skipped_is_never_made(text):
    assert not clean_text(text, frozenset(CHANGES))[1]
    assert "html_tags" not in clean_text(text, frozenset({"html_tags"}))[1]


def assert_skipped_passes_change_nothing(text):
    for may_change, passes in PASSES:
        assert may_change(text) or all(change(text) == text for _, change in passes)


def test_a_next_line_character_is_a_line_end_whether_or_not_another_line_is_misread():
    assert clean_text("An egg\x85wins.")[0] == "An egg\nwins."
    assert clean_text("It\u00e2\u0080\u0099s\nAn egg\x85wins.")[0] == "It’s\nAn egg\nwins."


@given(TEXTS)
@example("\x85")
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
    unusual = may_be_mojibake(text) or may_have_markdown(text) or "<" in text
    if text.casefold().rstrip(".:") != "advertisement" and not unusual:
        assert clean_text(text)[0] == unicodedata.normalize("NFC", text)
