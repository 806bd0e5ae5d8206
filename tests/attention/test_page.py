"""The page: its data, its size, text that looks like markup, and its use by mouse and keyboard."""

import base64
import dataclasses
import zlib

import numpy as np
import pytest
import torch

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
        cells = page.find_elements("css selector", ".cell")
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
