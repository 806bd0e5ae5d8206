"""Datelines, and articles that were cut off."""

import pytest

from onion_lightning.data.cleaning.edges import find_cut, mend_dateline


@pytest.mark.parametrize(
    ("article", "mended"),
    [
        ("LOS ANGELESEarly reviews say", "LOS ANGELES—Early reviews say"),
        ("TOLEDO, OHLocal man says", "TOLEDO, OH—Local man says"),
        ("WASHINGTONIn a move", "WASHINGTON—In a move"),
        ("ST. PAUL, MNCiting eggs, he", "ST. PAUL, MN—Citing eggs, he"),
    ],
)
def test_a_dateline_without_its_dash_is_mended(article, mended):
    assert mend_dateline(article) == mended
    assert mend_dateline(mended) == mended


@pytest.mark.parametrize(
    "article",
    [
        "US CEOs say",
        "NASAs egg",
        "UNICEFers say",
        "MacDonald said",
        "LOS ANGELES Early",
        "BBCTwo said",
        "An egg won",
        "",
    ],
)
def test_where_a_dateline_may_end_elsewhere_nothing_is_mended(article):
    assert mend_dateline(article) == article


@pytest.mark.parametrize(
    "marker",
    [
        "… [+2101 chars]",
        "... [+12,101 chars]",
        " [...]",
        " […]",
        " (more…)",
        " Read the full story",
        " Read the full story here.",
        "\nContinue reading",
        "\nContinue reading Egg Wins at the Bugle »",
        "\nRead more",
        "\nRead more »",
        "\nClick here to read the rest of this article.\nTags: eggs",
    ],
)
def test_the_marker_of_a_cut_is_found(marker):
    article = "TOLEDO, OH—An egg won the vote. It was a close"
    whole = f"{article}.{marker}" if marker.startswith((" R", "\n")) else article + marker
    assert find_cut(whole) is not None
    assert whole[: find_cut(whole)].rstrip(".") == article


@pytest.mark.parametrize(
    "article",
    [
        "An egg won...",
        "“I […] won,” the egg said. It was close.",
        "He told her to read the full report before dinner.",
        "She likes to continue reading.",
        "“Read more,” said the egg.",
        "An egg (more or less) won.",
        "He had [redacted] it.",
    ],
)
def test_an_article_that_ends_by_itself_has_no_cut(article):
    assert find_cut(article) is None
