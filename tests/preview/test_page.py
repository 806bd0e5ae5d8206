"""The page: what it shows, text that looks like markup, and that it needs nothing but itself."""

import dataclasses
import html
import re

import pytest

from onion_lightning.preview.page import describe_end, describe_languages, render_page
from onion_lightning.preview.rows import SeenRow
from onion_lightning.preview.tokens import SeenToken


def test_the_tokens_on_the_page_are_those_of_the_rows(preview):
    page = render_page(preview)
    sections = re.findall(r'<div class="tokens".*?</div>', page, re.DOTALL)
    assert len(sections) == len(preview.rows)
    for section, (row, _) in zip(sections, preview.rows, strict=True):
        parts = dict(re.findall(r'<span class="(prompt|trained)">(.*?)</i></span>', section, re.DOTALL))
        ids = {
            name: [int(number) for ids in re.findall(r'<i title="([\d ]+)"', part) for number in ids.split()]
            for name, part in parts.items()
        }
        assert ids["prompt"] + ids["trained"] == row.ids
        assert len(ids["trained"]) == sum(row.supervised)
        assert section.count(">BOS</i>") == 1
        assert section.count(">EOS</i>") == row.ends
        assert ("no EOS" in section) != row.ends


def test_markup_in_headlines_and_articles_is_shown_as_text(preview):
    page = render_page(preview)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    for row, _ in preview.rows:
        assert row.headline in text


def test_the_page_refers_to_nothing_outside(preview):
    page = render_page(preview)
    assert not re.search(r"https?:|\bsrc=|\bhref=|url\(|@import", re.sub(r"&[^;]*;", "", page))
    assert "default-src 'none'" in page


def test_differences_of_cleaning_are_marked_and_their_rows_are_open(preview):
    page = render_page(preview)
    changed = sum(bool(differences.changes) for _, differences in preview.rows)
    assert page.count("<details open>") == changed
    if changed:
        assert "<del>[U+200B]</del>" in page
        assert "<ins>␣</ins>" in page


def test_figures_reasons_changes_and_characters_are_listed(preview):
    page = render_page(preview)
    figures = preview.figures
    assert f"{figures.supervised:,} of {figures.tokens:,}" in page
    assert f"{figures.without_eos:,} ({figures.without_eos_share:.1%})" in page
    assert "The article has fewer words than --data.min_words" in page
    assert page.count("Too short") == 3
    assert "Zero-width characters" in page
    assert len(preview.characters) > 3
    for character in preview.characters[:3]:
        assert f"{character.character} <small>{character.name}</small>" in html.unescape(page)


@pytest.mark.parametrize(
    ("found", "language", "value", "note"),
    [
        ({"en": 8}, "keep", "none", "of 8 rows, all are in en"),
        ({"en": 6, "fr": 2}, "auto", "2 (25.0%)", "of 8 rows, 2 in fr; most are in en"),
        (
            {"en": 5, "fr": 2, "de": 1, "es": 1, "it": 1, "da": 1},
            "keep",
            "6 (54.5%)",
            "of 11 rows, 2 in fr, 1 in de, 1 in es, 1 in it, ...; most are in en; --data.language auto drops them",
        ),
    ],
)
def test_the_languages_of_the_rows_are_described(preview, found, language, value, note):
    other = dataclasses.replace(preview, languages=found, settings=preview.settings | {"language": language})
    assert describe_languages(other) == (value, note)


@pytest.mark.parametrize(
    ("eos", "whole", "lost", "text"),
    [
        (True, True, 0, ""),
        (False, True, 0, "cut here: no EOS"),
        (False, True, 1, "cut here: 1 more token, no EOS"),
        (False, False, 8, "cut here: 8 more tokens, no EOS"),
        (False, False, 0, "cut off by its source: no EOS"),
    ],
)
def test_the_end_of_a_row_says_what_was_cut(eos, whole, lost, text):
    last = SeenToken((2,), "</s>", True, "EOS") if eos else SeenToken((5,), " egg", True, "")
    assert describe_end(SeenRow("Egg", 0, 1, [last], whole, lost, 0)) == text


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_offline_without_messages_and_fits_the_screen(preview, tmp_path, dark, width):
    from tests.browser import chromium, complaints, requests, screenshot

    page = tmp_path / "preview.html"
    page.write_text(render_page(preview), encoding="utf-8")
    with chromium(dark) as browser:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.title == "Preview: what will be trained"
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
        background = browser.find_element("tag name", "body").value_of_css_property("background-color")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == dark
        prompt, trained = (browser.find_element("css selector", f".tokens .{name}") for name in ("prompt", "trained"))
        red, green, blue = (int(part) for part in re.findall(r"\d+", trained.value_of_css_property("color"))[:3])
        assert green > max(red, blue)
        grey = [int(part) for part in re.findall(r"\d+", prompt.value_of_css_property("color"))[:3]]
        assert max(grey) - min(grey) < 20
        assert requests(browser) == [page.as_uri()]
        assert complaints(browser) == []
        assert len(screenshot(browser, tmp_path / "page.png")) > 20_000
