"""The page: its data, its size, text that looks like markup, and its use by mouse and keyboard."""

import base64
import dataclasses
import zlib

import numpy as np
import pytest
import torch

from onion_lightning.attention.effects.experiment import EffectSettings
from onion_lightning.attention.effects.words import finding
from onion_lightning.attention.page import page_data, render_page
from onion_lightning.attention.phrase_attention import attend
from tests.attention.conftest import KEY, QUERY, TEXT
from tests.browser import chromium, complaints, requests, screenshot


def test_the_page_contains_the_attention_of_the_maps(result):
    data = page_data(result)
    packed = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"])), np.uint8)
    maps = packed.reshape(1, data["rows"], 2 + data["layers"] + len(data["kept_heads"]), data["width"])
    index = data["kept_heads"].index(1 * 4 + 3)
    expected = result.maps["base"].mean[1, 3]
    np.testing.assert_allclose((maps[0, 0, 2 + 2 + index] / 255) ** 2, expected, atol=0.004)
    first, largest = data["rollout_scale"]["base"][2]
    rollout = result.maps["base"].rollout[1]
    np.testing.assert_allclose((maps[0, 2, 0, 1:] / 255) ** 2 * largest, rollout[1:], atol=0.004 * largest)
    assert (first, largest) == (rollout[0], rollout[1:].max())
    assert "".join(before + text for before, text in data["pieces"][1:]).strip() == TEXT


def test_the_page_of_a_long_text_in_a_large_model_stays_under_5_mb(base, tokenizer):
    layers, heads, tokens = 32, 32, 1500
    result = attend(base, tokenizer, "The town" + " egg" * 100 + " ended", "ended", "town")
    noise = torch.rand(layers, heads, tokens)  # the least compressible content
    maps = result.maps["base"]._replace(mean=noise, per_token=None, rollout=torch.rand(1, tokens))
    large = dataclasses.replace(result, maps={"base": maps, "tuned": maps})
    assert len(render_page(large)) < 5e6
    data = page_data(large)
    assert len(data["kept_heads"]) < layers * heads  # the lowest-ranked heads are omitted
    assert set(data["kept_heads"]) == {a * heads + b for a, b in large.ranking[: len(data["kept_heads"])]}


def test_markup_in_a_text_stays_text(base, tokenizer):
    text = "The town <script>alert(1)</script> met </script> & ended"
    page = render_page(attend(base, tokenizer, text, "ended", "<script>alert(1)"))
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 2


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_works_by_mouse_and_keyboard_without_requests_or_console_messages(tuned, tmp_path, dark):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    text = f"{TEXT} <script>document.title='x'</script> 🥚"
    result = attend(tuned.model, tuned.tokenizer, text, QUERY, KEY)
    file = tmp_path / "attention.html"
    file.write_text(render_page(result), encoding="utf-8")
    with chromium(dark=dark) as page:
        page.get(file.as_uri())
        WebDriverWait(page, 20).until(lambda _: page.execute_script("return document.body.dataset.ready"))

        def status():
            return page.find_element("id", "status").text

        def choose(name, value):
            Select(page.find_element("id", name)).select_by_value(value)

        def percent(value):  # as the page formats it
            return f"{100 * value:.{2 if abs(value) < 0.0995 else 1}f}%"

        assert result.text.strip() == page.find_element("id", "text").text.replace("<s>", "", 1).strip()
        layer, head = result.ranking[0]
        finding = page.find_element("id", "finding").text
        assert finding.startswith(f"Highest-ranked head: layer {layer}, head {head}. ")
        assert f" {percent(result.heads['tuned'].key_share[layer, head])} of the query's attention" in finding
        cells = page.find_elements("css selector", "#heatmap .cell")
        assert len(cells) == 2 * 5
        cells[5 + 1 + 2].click()  # layer 1, head 2
        key_share = result.heads["tuned"].key_share
        assert status().startswith(f"Layer 1, head 2: {percent(key_share[1, 2])} to the key")
        ActionChains(page).send_keys(Keys.ARROW_UP, Keys.ARROW_RIGHT).perform()
        assert status().startswith(f"Layer 0, head 3: {percent(key_share[0, 3])} to the key")
        assert page.switch_to.active_element.get_attribute("aria-selected") == "true"
        choose("system", "base")
        assert percent(result.heads["base"].key_share[0, 3]) in status()
        choose("system", "difference")
        change = float(key_share[0, 3] - result.heads["base"].key_share[0, 3])
        assert ("−" if change < 0 else "+") + percent(abs(change)) in status()
        assert page.find_element("id", "top-title").text == "Tokens with the largest change"
        assert page.find_element("id", "scale").text.endswith("Blue: lower in the tuned model.")
        choose("system", "tuned")
        choose("row", "2")
        strongest = page.find_element("css selector", "#top-tokens td:nth-child(2)").text
        assert int(strongest) == 1 + int(result.maps["tuned"].per_token[0, 3, 1, 1:].argmax())
        choose("layer", "rollout")
        assert status().startswith("Rollout over all layers")
        choose("measure", "z")
        for token in (result.key.first, len(result.tokens) - 1):
            element = page.find_element("css selector", f'[data-index="{token}"]')
            ActionChains(page).move_to_element(element).perform()
            assert status().startswith("After the query" if token >= result.query.stop else "“")
        assert "Eggville" in page.title
        assert requests(page) == [file.as_uri()]
        assert complaints(page) == []
        assert len(screenshot(page, tmp_path / "page.png")) > 10_000


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_effects_are_shown_for_the_chosen_model(tuned, tmp_path, width):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    result = attend(tuned.model, tuned.tokenizer, TEXT, QUERY, KEY, effect=EffectSettings(window=1))
    file = tmp_path / "attention.html"
    file.write_text(render_page(result), encoding="utf-8")
    with chromium() as page:
        page.set_window_size(width, 900)
        page.get(file.as_uri())
        WebDriverWait(page, 20).until(lambda _: page.execute_script("return document.body.dataset.ready"))

        def text(name):
            return page.find_element("id", name).text

        def nats(value):  # as the page formats it
            return ("−" if value < 0 else "+") + f"{abs(value):.{4 if abs(value) < 0.0095 else 2}f} nats"

        def likelier(loss):
            return nats(loss)[1:] + (" more likely" if loss < 0 else " less likely")

        effects = result.effects["tuned"]
        layer, head = result.ranking[0]
        assert (
            text("effect-status")
            == f"Layer {layer}, head {head}, its edges cut: {likelier(effects.heads[layer, head])}."
        )
        assert text("finding").endswith(f"in this head alone, the query is {likelier(effects.heads[layer, head])}.")
        assert text("effect-finding") == finding(effects, result.query.text, result.key.text)
        cells = page.find_elements("css selector", "#effect-map .cell")
        assert len(cells) == 2 * 4
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", cells[0])
        cells[5].click()  # layer 1, head 1
        assert text("effect-status").startswith(f"Layer 1, head 1, its edges cut: {likelier(effects.heads[1, 1])}")
        assert text("status").startswith("Layer 1, head 1: ")  # the attention map shows the same head
        cells[5].send_keys(Keys.ARROW_UP)
        assert text("effect-status").startswith(f"Layer 0, head 1, its edges cut: {likelier(effects.heads[0, 1])}")
        assert len(page.find_elements("css selector", "#curve circle")) == 2
        Select(page.find_element("id", "system")).select_by_value("base")
        assert text("effect-finding") == finding(result.effects["base"], result.query.text, result.key.text)
        Select(page.find_element("id", "system")).select_by_value("difference")
        change = effects.heads[0, 1] - result.effects["base"].heads[0, 1]
        assert nats(change) in text("effect-status")
        Select(page.find_element("id", "system")).select_by_value("tuned")
        Select(page.find_element("id", "layer")).select_by_value("gradient")
        assert text("top-title") == "Tokens that contribute most"
        strongest = int(page.find_element("css selector", "#top-tokens td:nth-child(2)").text)
        assert strongest == 1 + int(np.abs(effects.gradient_times_input[1:]).argmax())
        ActionChains(page).move_to_element(page.find_element("css selector", '[data-index="3"]')).perform()
        assert nats(effects.gradient_times_input[3]) in text("status")
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert complaints(page) == []


def test_a_page_without_effects_has_no_section_for_them(result):
    assert page_data(result)["effects"] == {}
