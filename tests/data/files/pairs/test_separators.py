"""What divides a text into a headline and an article."""

import pytest

from onion_lightning.data.files.pairs.separators import BLANK_LINE, MOST_WORDS, divide, find_separator
from tests.data.conftest import body
from tests.data.files.pairs.conftest import ROWS

PARAGRAPHS = "\n\nThe egg could not be reached, and #eggs | won.\n\nMore followed."


def join(separator: str, more: str = "") -> list[str]:
    return [f"{h}{separator}{a}{more}" for h, a in ROWS.items()]


@pytest.mark.parametrize(
    ("separator", "found"),
    [
        *((" #~# ", "#~#"), ("#~#", "#~#"), (" | ", "|"), ("\t", "\t"), ("\n=====\n", "====="), (" :: ", "::")),
        *(
            ("!#~#“", "#~#"),
            (" #~#\n\n", "#~#"),
            ("\n\n***\n\n", "***"),
            ("\n\n", BLANK_LINE),
            ("\r\n \r\n", BLANK_LINE),
        ),
        *((" | The Bugle\n\n", BLANK_LINE), ("!\n\n", BLANK_LINE)),
        *((" - ", None), (": ", None), ("\n", None), (" ", None), ("\n======\n", None), (".\n\n", None), ("。", None)),
    ],
)
def test_one_string_of_signs_or_a_blank_line_is_a_separator(separator, found):
    assert find_separator(join(separator)) == found
    assert find_separator(join(separator, PARAGRAPHS)) == found


@pytest.mark.parametrize(("others", "found"), [(5, "#~#"), (6, None)])
def test_a_separator_divides_95_percent_of_the_texts(others, found):
    texts = [f"Egg {i} #~# {body(i)}" for i in range(100 - others)] + [body(i) for i in range(others)]
    assert find_separator(texts) == found


@pytest.mark.parametrize(("words", "found"), [(MOST_WORDS, "#~#"), (MOST_WORDS + 1, None)])
def test_a_headline_has_at_most_40_words(words, found):
    texts = [f"{'egg ' * words}#~# {body(i)}" for i in range(9)]
    assert find_separator(texts) == found
    assert (divide(texts[0], "#~#", MOST_WORDS) is None) == (found is None)
    assert divide(texts[0], "#~#", 0) == (("egg " * words).strip(), body(0))


@pytest.mark.parametrize("text", ["#~# {}", "{} #~#"])
def test_neither_side_of_a_separator_is_blank(text):
    assert find_separator([text.format(body(i)) for i in range(9)]) is None


def test_a_single_text_shows_no_separator():
    assert find_separator(join(" #~# ")[:1]) is None


def test_a_text_is_divided_where_the_separator_first_occurs():
    assert divide(" Egg | Man | Area ", " | ", 0) == ("Egg", "Man | Area")
    assert divide("Egg\r\n\t\r\nA.\n\nB.", BLANK_LINE, 0) == ("Egg", "A.\n\nB.")
    assert divide("Egg\r\nMan", BLANK_LINE, 0) is None
