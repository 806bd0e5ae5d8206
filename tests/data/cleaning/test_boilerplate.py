"""What a site adds to its articles, found by repetition."""

import numpy as np
import pytest

from onion_lightning.data.cleaning.boilerplate import (
    article_keys,
    find_repeated,
    headline_keys,
    label_of,
    line_key,
    remove_lines,
    remove_site_name,
)


def repeated(articles):
    keys = [article_keys(article) for article in articles]
    lines = np.array([key for one in keys for key in one.lines], dtype=np.int64)
    counts, longest = np.array([len(one.lines) for one in keys]), np.array([one.longest for one in keys])
    return frozenset(find_repeated(lines, counts, longest).tolist())


def articles(*lines, count=20):
    """Articles with a line each of these patterns has a number in, and two lines of their own."""
    return [
        "\n".join([f"Egg {i} won by a length.", *(line.format(i=i) for line in lines), f"Dog {i * i} lost it."])
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "line",
    ["77 SHARES Facebook Twitter", "{i} SHARES Facebook Twitter", "Read more: Why dog {i} lost", "By staff reporter"],
)
def test_a_line_in_many_articles_is_removed_from_all(line):
    rows = articles(line.replace("{i}", "{i}"))
    rows = [
        row.replace("Egg", f"Egg {chr(97 + at)}").replace("Dog", f"Dog {chr(97 + at)}") for at, row in enumerate(rows)
    ]
    found = repeated(rows)
    for row in rows:
        first, _, last = row.split("\n")
        assert remove_lines(row, found) == f"{first}\n{last}"


def test_a_line_in_a_few_articles_or_in_a_small_share_is_kept():
    few = [f"Egg {word}\nA shared line here\nDog {word}" for word in "abcd"]
    assert not repeated(few)
    many = [f"Egg {word}\nDog {word}" for word in map("x".__mul__, range(1, 1200))]
    rare = [f"Cat {word}\nA shared line here\nCow {word}" for word in "abcde"]
    assert not repeated(many + rare)
    assert repeated(rare)


def test_copies_of_an_article_do_not_make_its_lines_boilerplate():
    copies = [
        f"An egg won the vote by a length.\nA dog lost it by two.\nA cat saw it all, it said.\n{word}"
        for word in "abcdefgh"
    ]
    assert not repeated(copies)


def test_a_long_repeated_line_does_not_hide_the_shorter_ones():
    wall = "We value your privacy. " * 10
    rows = [f"{wall}\nEgg {word} won\nShare this now\nDog {word} lost" for word in "abcdefgh"]
    found = repeated(rows)
    assert [remove_lines(row, found) for row in rows] == [f"Egg {word} won\nDog {word} lost" for word in "abcdefgh"]


def test_speakers_and_datelines_are_no_labels():
    rows = [
        f"TOLEDO: Egg {word} won\nQuestion: who won {word}?\nThe egg {word}.\nQuestion: why {word}?\nIt did {word}."
        for word in "abcdefgh"
    ]
    assert not repeated(rows)


def test_a_list_with_labels_is_no_boilerplate():
    steps = ("Step 1", "Step 2", "Step 3", "Step 4")
    rows = [
        "\n".join([f"How to boil egg {word}", *(f"{step}: {word} {step[-1]}" for step in steps)]) for word in "abcdefgh"
    ]
    assert not repeated(rows)


def test_lines_that_are_never_boilerplate_have_no_key():
    assert line_key("No.") is line_key("* * *") is line_key("12.") is line_key("x" * 2000) is None
    assert label_of("Read more: an egg") == "read more"
    assert label_of("The egg of the dog said: no") is label_of("Q: why") is label_of("10:30 now") is None


def test_the_name_of_a_site_is_removed_from_the_ends_of_headlines():
    names = frozenset(headline_keys("Man Sits - Local - The Bugle"))
    assert len(names) == 2
    for headline in ("Egg Wins - The Bugle", "Egg Wins | The Bugle", "Egg Wins – local — The Bugle"):
        assert remove_site_name(headline, names) == "Egg Wins"
    for headline in ("Egg Wins - A Dog", "Egg-Wins-The Bugle", "The Bugle"):
        assert remove_site_name(headline, names) == headline
