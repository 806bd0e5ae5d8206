"""The files of a report: their keys, and the page in a browser."""

import json
import re

import pytest

from onion_lightning.evaluation.metrics import compute_metrics
from onion_lightning.evaluation.report import FILES, render, report_files
from onion_lightning.model.writing.copying import CopiedRun
from tests.evaluation.conftest import measured, sample, settings, with_best_of

TEXT_KEYS = ["words", "loop_rate", "headline_recall", "dateline", "spokesperson", "closing_turn", "words_per_sentence"]
TEXT_KEYS += ["distinct_1", "distinct_2", "distinct_3"]
ARTICLE_KEYS = ["article", "headline_rank", *TEXT_KEYS, "headline_top_1", "headline_mrr"]
ARTICLE_KEYS += ["copied_words", "copied_from", "copied_rate"]
LIKELIHOOD_KEYS = ["loss", "perplexity", "bits_per_byte"]
MEAN_KEYS = ["loop_rate", "words", "headline_recall", "headline_top_1", "headline_mrr", "copied_rate", *TEXT_KEYS[3:]]
OTHER_KEYS = ["words_25", "words_50", "words_75", "longest_copy", "style_distance"]
SETTING_KEYS = ["headlines", "n", "shots", "shots_least", "base_model", "load_in", "checkpoint", "seed", "corpus"]
SETTING_KEYS += ["batch_size", "max_new_tokens", "temperature", "top_p", "repetition_penalty", "best_of", "also"]


def samples_and_metrics(headline="Egg"):
    samples = [sample(10, 9, 6, 4, 10, headline), sample(30, 27, 24, 16, 50), sample(9, 8, 7, 5, 12)]
    return samples, compute_metrics(samples, settings(), seed=1)


def test_the_keys_of_both_json_files_and_their_order_are_stable():
    samples, metrics = samples_and_metrics()
    files = report_files(metrics, samples)
    assert tuple(files) == FILES == ("report.html", "metrics.json", "samples.jsonl")
    found = json.loads(files["metrics.json"])
    assert list(found) == ["settings", "systems", "intervals", "paired"]
    assert list(found["settings"]) == SETTING_KEYS
    for kind, more in (("systems", OTHER_KEYS), ("intervals", [])):
        assert list(found[kind]) == ["base", "few_shot", "tuned", "real"]
        for system in ("base", "few_shot", "tuned"):
            assert list(found[kind][system]) == [*LIKELIHOOD_KEYS, "eos_rate", "cut_rate", *MEAN_KEYS, *more]
        assert list(found[kind]["real"]) == [*MEAN_KEYS, *more]
    assert list(found["paired"]) == ["tuned_minus_base", "tuned_minus_few_shot"]
    assert all(list(pair) == ["difference", "interval"] for pair in found["paired"].values())
    intervals = [*found["intervals"]["tuned"].values(), found["paired"]["tuned_minus_base"]["interval"]]
    assert all(isinstance(low, float) and isinstance(high, float) for low, high in intervals)
    for line in files["samples.jsonl"].splitlines():
        one = json.loads(line)
        assert list(one) == ["headline", "tokens", "bytes", "shots", "systems"]
        assert list(one["systems"]) == ["base", "few_shot", "tuned", "real"]
        for system in ("base", "few_shot", "tuned"):
            assert list(one["systems"][system]) == [*ARTICLE_KEYS, "loss", "new_tokens", "eos_rate", "cut_rate"]
        assert list(one["systems"]["real"]) == ARTICLE_KEYS


def test_markup_in_headlines_and_articles_is_shown_as_text():
    nasty = "<script>alert(1)</script>"
    samples, metrics = samples_and_metrics(nasty)
    samples[0].systems["tuned"] = measured("tuned", text=nasty, loss=6)
    samples[0].systems["base"] = measured("base", loss=10, copied=CopiedRun(20, nasty))
    page = render(metrics, samples)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


def test_the_summary_says_whether_the_difference_is_clear():
    samples, metrics = samples_and_metrics()
    page = render(metrics, samples)
    assert "The loss of the tuned model is lower than that of the base model (-0.480 nats per token, 95%" in page
    level = [sample(10, 9, 8, 4, 10), sample(30, 27, 28, 16, 50), sample(9, 8, 8, 5, 12)]
    page = render(compute_metrics(level, settings(), seed=1), level)
    assert "The loss of the tuned model is not clearly different from that of few-shot prompting (+0.000 nats" in page


def test_the_best_of_several_has_a_column_with_its_cost_and_a_sentence():
    samples, plain = samples_and_metrics()
    assert "Seconds per article" not in render(plain, samples)
    samples = [with_best_of(one, 1, 2) for one in samples]
    page = render(compute_metrics(samples, settings(best_of=8), seed=1), samples)
    assert "Best of 8" in page
    assert "Seconds per article" in page
    sentence = "headline for the best of 8 articles is higher than that for one (+0.50, 95% interval +0.50 to +0.50)."
    assert sentence in page
    assert "do not judge it by the\nrates of these three." in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("columns", [4, 5])
def test_the_report_opens_offline_without_errors_and_shows_scripts_as_text(tmp_path, dark, width, columns):
    from tests.browser import chromium, complaints, requests, screenshot

    samples, metrics = samples_and_metrics("<script>document.title = 'broken'</script>")
    if columns == 5:
        samples = [with_best_of(one, 1, 2) for one in samples]
        metrics = compute_metrics(samples, settings(best_of=8), seed=1)
    page = tmp_path / "page.html"
    page.write_text(render(metrics, samples), encoding="utf-8")
    with chromium(dark) as browser:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.title == "Evaluation: is it satire yet?"
        assert samples[0].headline in browser.find_element("tag name", "body").text
        assert len(browser.find_elements("css selector", "svg")) == 3
        assert len(browser.find_elements("css selector", "section article")) == columns * len(samples)
        background = browser.find_element("tag name", "body").value_of_css_property("background-color")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == dark
        assert browser.execute_script("return window.innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
        table = browser.find_element("css selector", ".scroll")
        assert browser.execute_script("return arguments[0].scrollWidth - arguments[0].clientWidth", table) <= 0
        assert requests(browser) == [page.as_uri()]
        assert complaints(browser) == []
        assert len(screenshot(browser, tmp_path / "page.png")) > 20_000
