"""Cleaning of whole rows."""

import pytest

from onion_lightning.data.cleaning.boilerplate import article_keys, headline_keys
from onion_lightning.data.cleaning.rows import CHANGES, CleanRow, Repeated, clean_texts, finish_row
from tests.data.conftest import readme_table


def test_boilerplate_is_removed_before_the_headline_and_the_dateline_are_looked_for():
    article = "12 SHARES\nEgg Wins The Vote\nLOS ANGELESAn egg won."
    repeated = Repeated(frozenset(article_keys("99 shares\nx").lines), frozenset(headline_keys("A - The Bugle")))
    row = finish_row(clean_texts("Egg Wins The Vote - The Bugle", article), repeated)
    assert row[:3] == (
        "Egg Wins The Vote",
        "LOS ANGELES—An egg won.",
        {"boilerplate", "repeated_headline", "site_name", "dateline"},
    )


def test_a_headline_is_found_in_the_article_with_and_without_the_name_of_the_site():
    repeated = Repeated(frozenset(), frozenset(headline_keys("A - The Bugle")))
    for first in ("Egg Wins", "Egg Wins - The Bugle"):
        row = CleanRow("Egg Wins - The Bugle", f"{first}\nAn egg won.", set())
        assert finish_row(row, repeated)[:2] == ("Egg Wins", "An egg won.")


def test_a_headline_of_several_lines_is_cleaned_as_the_line_that_it_becomes():
    assert clean_texts("**Egg\n\nWins**", "An egg.")[:3] == ("Egg Wins", "An egg.", {"markdown"})


def test_changes_that_are_skipped_are_not_made():
    row = clean_texts("Egg Wins", "Egg Wins\n<b>An egg</b>", frozenset(CHANGES))
    assert finish_row(row, skipped=frozenset(CHANGES))[:3] == ("Egg Wins", "Egg Wins\n<b>An egg</b>", set())


@pytest.mark.timeout(90)  # seconds, where a few are needed: quadratic code takes minutes
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a - ",
            "!",
            "<!--",
            "<p ",
            "[a](/",
            "((",
            "…",
            "“",
            "â\x80",
            "A B",
            "a: ",
            "\n",
            "&amp",
            " ",
            "read the full ",
        ),
        *("*", "_(", "**a** ", "`a", "![", "[a](/b)", "# A\n", "> a\n\n", "[a]: /b\n", "a\n=\n", "\x80", "à¸\x81"),
    ],
)
def test_a_long_cell_of_one_repeated_piece_takes_no_long_time(piece):
    text = piece * 50_000 + "x"
    row = clean_texts(text, text)
    article_keys(row.article)
    headline_keys(row.headline)
    assert finish_row(row).headline


def test_the_readme_lists_every_change():
    assert readme_table("Cleaning") == CHANGES
