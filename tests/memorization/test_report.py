"""The page of `memorize` in a browser, and where else its verdict is shown."""

import json
import re
from itertools import product

import pytest

from onion_lightning.evaluation.command import find_memorized
from onion_lightning.evaluation.report import Memorized, render
from onion_lightning.memorization import report
from onion_lightning.memorization.extraction import compare
from onion_lightning.memorization.report import Exposed
from onion_lightning.memorization.result import ProbedRow, summarize
from onion_lightning.memorization.tasks import WAYS, Row
from tests.evaluation.test_report import samples_and_metrics

NASTY = "<script>document.title = 'broken'</script>"


def probed(groups=("once", "repeated", "held_out")):
    truth = list(range(1, 61))
    found = {way: compare(truth[:50] if way[0] == "tuned" else truth[9:30], truth, 50, 0) for way in WAYS}
    rows = [Row(at, NASTY, group, [1], truth, truth) for at, (group, _) in enumerate(product(groups, range(4)))]
    scores = [{"tuned": 2 + at % 4, "base": 3.5, "tuned_minus_base": at % 4 - 1.5} for at in range(len(rows))]
    return [ProbedRow(row, score, found) for row, score in zip(rows, scores, strict=True)]


def page(rows):
    settings = {"base_model": "tiny", "load_in": "int8", "checkpoint": "last.ckpt", "seed": 1}
    settings |= {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1}
    exposed = [Exposed(rows[0], 20, "greedy", 50, 1.0, NASTY, NASTY), Exposed(rows[4], 0, "", 0, 0.0, "", "")]
    return report.render(summarize(rows, settings, [f"Note {NASTY}"], 1), rows, exposed)


def test_markup_is_shown_as_text_and_nothing_is_loaded():
    text = page(probed())
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 5
    assert not re.search(r"(src|href)=\"?http|@import|url\(http", text)
    assert "needs 100 held-out articles" in text
    assert "Of 8 training articles 8 are continued verbatim for 50 tokens (4 of 4 with near-duplicates)" in text


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_offline_without_errors(tmp_path, dark, width):
    from tests.browser import chromium, complaints, requests, screenshot

    file = tmp_path / "page.html"
    file.write_text(page(probed()), encoding="utf-8")
    with chromium(dark) as browser:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())
        assert browser.title == "Memorization: does it recite?"
        background = browser.find_element("tag name", "body").value_of_css_property("background-color")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == dark
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert requests(browser) == [file.as_uri()]
        assert complaints(browser) == []
        assert len(screenshot(browser, tmp_path / "page.png")) > 20_000


def test_evaluate_links_to_the_page_of_the_same_checkpoint():
    samples, metrics = samples_and_metrics()
    text = render(metrics, samples, Memorized("Of 20 none <b>", "../memorization/report.html"))
    assert 'Of 20 none &lt;b&gt; <a href="../memorization/report.html">' in text
    assert "memorization" not in render(metrics, samples)


def test_only_a_verdict_on_the_same_checkpoint_beside_the_report_is_linked(tmp_path):
    checkpoint, file = tmp_path / "last.ckpt", tmp_path / "memorization" / "memorize.json"
    checkpoint.touch()
    file.parent.mkdir()
    file.write_text(json.dumps({"settings": {"checkpoint": str(checkpoint)}, "verdict": "Of 20 articles none."}))
    found = find_memorized(str(checkpoint), tmp_path / "evaluation")
    assert found == Memorized("Of 20 articles none.", "../memorization/report.html")
    assert find_memorized(str(checkpoint), tmp_path / "elsewhere" / "evaluation") is None
    assert find_memorized(str(tmp_path / "other.ckpt"), tmp_path / "evaluation") is None
