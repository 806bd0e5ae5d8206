"""Comparing headlines, and headlines that are repeated in their articles."""

import pytest

from onion_lightning.data.cleaning.headlines import headline_key
from onion_lightning.data.cleaning.rows import clean_row


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


@pytest.mark.parametrize(
    ("headline", "article", "kept"),
    [
        ("A b c d", "A b\nc d\n\nAn egg won.", "An egg won."),
        ("Egg\nWins", "egg wins\nAn egg won.", "An egg won."),
        ("Area man wins vote today!", "Area man wins vote today! Area man said so.", "Area man said so."),
        ("Did an area man win?", "Did an area man win? He did.", "He did."),
        ("‘Area Man Wins,’ Says Man", '"Area man wins," says man\n\nAn egg won.', "An egg won."),
        ("Area Man Wins — Again Today", "AREA MAN WINS - AGAIN TODAY\nAn egg won.", "An egg won."),
        ("Egg Wins!", "Egg wins! It was close.", "Egg wins! It was close."),  # too short to be certain within a line
        ("की", "का\nAn egg won.", "का\nAn egg won."),
        ("!!", "??\nAn egg won.", "??\nAn egg won."),
        ("!!", "!!\nAn egg won.", "An egg won."),
    ],
)
def test_a_repeat_is_found_by_its_words(headline, article, kept):
    assert clean_row(headline, article).article == kept


@pytest.mark.parametrize(
    "article", ["Area Man Wins Vote", "Area man\nwins vote!", "Area Man Wins Vote\nArea Man Wins Vote"]
)
def test_an_article_that_is_nothing_but_the_headline_is_marked(article):
    row = clean_row("Area Man Wins Vote", article)
    assert (row.article, row.repeats) == ("", True)
    assert not clean_row("Area Man Wins Vote", "").repeats
