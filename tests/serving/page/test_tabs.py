"""The page in headless Chromium: every tab, by mouse and keyboard, without requests to other hosts or console messages."""

import sqlite3
import time
from functools import partial

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from tests.browser import chromium, complaints, requests, screenshot

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

EVIL = "<img src=http://elsewhere.invalid/x.png onerror=document.title='broken'> Egg Wins"


class Page:
    """What a person does with the page."""

    def __init__(self, browser, url):
        self.browser = browser
        self.url = url
        self.open()

    def open(self):
        self.browser.get(self.url)
        self.opened()

    def opened(self):
        self.until(lambda: self.browser.find_elements(By.ID, "write"))
        time.sleep(0.5)

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)
        return found

    def box(self, name):
        return self.browser.find_element(By.CSS_SELECTOR, f"#{name} textarea, #{name} input")

    def value(self, name):
        return self.box(name).get_attribute("value")

    def headline(self):
        boxes = self.browser.find_elements(By.CSS_SELECTOR, "input[placeholder='Area Man Declares War On Tuesday']")
        return next(box for box in boxes if box.is_displayed())

    def type(self, headline):
        self.headline().clear()
        self.headline().send_keys(headline)

    def tab(self, name):
        tabs = self.browser.find_elements(By.CSS_SELECTOR, "button[role=tab]")
        next(tab for tab in tabs if tab.text == name and tab.is_displayed()).click()
        time.sleep(0.3)

    def press(self, name):
        buttons = self.browser.find_elements(By.XPATH, f"//button[normalize-space(.)='{name}']")
        # gradio measures the width of its tabs with invisible copies
        real = [b for b in buttons if b.get_attribute("role") != "tab" and b.get_attribute("tabindex") != "-1"]
        next(button for button in real if button.is_displayed()).click()

    def text(self, name):
        return self.browser.find_element(By.ID, name).text

    def select(self, name, phrase, skip=0):
        """Select the last occurrence of a phrase, without its first characters."""
        end = self.value(name).rindex(phrase) + len(phrase)
        script = "arguments[0].focus(); arguments[0].setSelectionRange(arguments[1], arguments[2])"
        self.browser.execute_script(script, self.box(name), end - len(phrase) + skip, end)

    def write(self, headline):
        self.type(headline)
        self.press("Write")
        self.until(lambda: self.value("article1"))
        self.until(lambda: "tokens, " in self.text("about"))

    def clean(self):
        assert complaints(self.browser) == []
        assert [url for url in requests(self.browser) if not url.startswith((self.url, "blob:", "about:"))] == []
        assert self.browser.title == "Onion Lightning"
        assert self.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_write_stop_compare_vote_reload_and_look_inside(serve, tmp_path):
    server = serve("--model.max_new_tokens", "300")
    with chromium() as browser:
        page = Page(browser, server.url)
        assert "Everything written here is fiction" in browser.find_element(By.CSS_SELECTOR, ".notice").text
        assert "last.ckpt" in browser.find_element(By.CSS_SELECTOR, ".faint").text
        page.write("Egg Wins")
        first = page.value("article1")

        # the same seed writes the same, "Write another" another
        page.write("Egg Wins")
        assert page.value("article1") == first
        page.press("Write another")
        page.until(lambda: "tokens, " in page.text("about") and page.value("article1") not in ("", first))

        # stop keeps what was written
        page.type("Egg Loses")
        page.press("Write")
        page.until(lambda: 0 < len(page.value("article1")) < 200)
        page.press("Stop")
        time.sleep(0.7)
        stopped = page.value("article1")
        time.sleep(0.7)
        assert page.value("article1") == stopped
        assert "tokens, " not in page.text("about")  # it did not end by itself

        # text is never markup
        page.write(EVIL)
        page.type(" ")
        page.press("Write")
        page.until(lambda: "The headline is empty" in browser.find_element(By.TAG_NAME, "body").text)
        assert not browser.find_elements(By.CSS_SELECTOR, "img[src*=elsewhere]")
        page.write("Egg Wins")
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        page.press("Download")
        page.until((tmp_path / "article.txt").exists)
        assert (tmp_path / "article.txt").read_text(encoding="utf-8").strip() == page.value("article1").strip()
        # the clipboard of the system, which a headless browser lacks, is stood in for
        browser.execute_script("navigator.clipboard.writeText = async text => { window.copied = text; }")
        page.press("Copy")
        page.until(lambda: browser.execute_script("return window.copied") == page.value("article1"))
        page.until(lambda: browser.find_elements(By.XPATH, "//button[normalize-space(.)='Copied']"))

        page.tab("Compare")
        page.type(EVIL)
        page.press("Compare")
        page.until(lambda: all(page.value(f"compare_{name}") for name in ("base", "few_shot", "tuned")))

        page.tab("Vote")
        assert "No votes yet." in page.text("tally")
        assert not browser.find_element(By.ID, "vote_left").is_enabled()
        page.type(EVIL)
        page.press("Write")
        page.until(lambda: browser.find_element(By.ID, "vote_left").is_enabled())
        assert page.value("left")
        assert page.value("right")
        page.press("Left is funnier")
        page.until(lambda: page.value("answer").startswith("Left: "))
        page.until(lambda: "95% interval" in page.text("tally"))
        assert not browser.find_element(By.ID, "vote_left").is_enabled()
        tally = page.text("tally")
        page.open()
        page.tab("Vote")
        page.until(lambda: page.text("tally") == tally)
        with sqlite3.connect(tmp_path / "votes.sqlite") as votes:
            assert votes.execute("SELECT headline, choice FROM votes").fetchall() == [(EVIL, "left")]
        votes.close()

        page.tab("Write")
        page.write("Egg Wins Again")
        page.tab("Look inside")
        page.until(lambda: page.value("look_headline") == "Egg Wins Again")
        article = page.value("look_text")
        assert article
        phrase = article.split()[-1]
        page.select("look_text", phrase)
        page.press("Use the selection as the phrase")
        page.until(lambda: page.value("look_query").split("#")[0] == phrase)
        # the occurrence that is selected is taken, although the headline contains the word, too
        for box, text in (("look_headline", "Egg Wins"), ("look_text", "The Egg said that an Egg had won.")):
            page.box(box).clear()
            page.box(box).send_keys(text)
        page.select("look_text", "an Egg", 3)
        page.press("Use the selection as the phrase")
        page.until(lambda: page.value("look_query") == "Egg#3")
        page.press("Look inside")
        frame = page.until(lambda: browser.find_elements(By.CSS_SELECTOR, "#frame iframe"))[0]
        assert frame.get_attribute("sandbox") == "allow-scripts"
        browser.switch_to.frame(frame)
        page.until(lambda: browser.find_elements(By.TAG_NAME, "h1"))
        assert "“Egg” → “Egg Wins”" in browser.find_element(By.TAG_NAME, "h1").text
        browser.switch_to.default_content()
        page.clean()


@pytest.mark.parametrize("width", [1280, 390])
def test_another_model_is_compared_and_voted_on(serve, width):
    server = serve("--also", "votes=last")
    with chromium(width=width) as browser:
        if width < 500:  # Chromium's window is never narrower
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page = Page(browser, server.url)
        assert "; votes: " in browser.find_element(By.CSS_SELECTOR, ".faint").text
        page.tab("Compare")
        page.type("Egg Wins")
        page.press("Compare")
        page.until(lambda: page.value("compare_votes") == page.value("compare_tuned") != "")  # the same checkpoint
        page.clean()
        page.tab("Vote")
        for number in range(1, 30):
            page.type(f"Egg {number} Wins")
            page.press("Write")
            page.until(lambda: browser.find_element(By.ID, "vote_tie").is_enabled())
            page.press("Tie")
            page.until(lambda: page.value("answer").startswith("Left: "))
            if "votes" in page.value("answer"):  # in half of the pairs
                break
        page.until(lambda: "votes" in page.text("tally"))
        page.clean()


def test_an_article_is_written_by_keyboard_and_the_focus_is_visible(server):
    with chromium() as browser:
        page = Page(browser, server.url)
        page.headline().click()
        ActionChains(browser).send_keys("Egg Wins", Keys.ENTER).perform()
        page.until(lambda: "tokens, " in page.text("about"))
        names, rings = [], []
        browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        for _ in range(30):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            name, ring = browser.execute_script(
                "const e = document.activeElement, s = getComputedStyle(e);"
                "return [e.getAttribute('aria-label') || (e.labels && e.labels[0] || e).innerText || '', s.outlineStyle]"
            )
            names.append(name.strip().split("\n")[0])
            rings.append(ring)
        for name in ("Write", "Stop", "Headline", "Article", "Write another", "Copy", "Download", "Settings"):
            assert any(name in found for found in names), (name, names)
        assert any("Irony dial" in found for found in names)
        assert set(rings[:12]) == {"solid"}
        page.clean()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_phone_and_follows_the_dark_mode(server, tmp_path, dark, width):
    with chromium(dark=dark, width=width) as browser:
        if width < 500:  # Chromium's window is never narrower
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page = Page(browser, server.url)
        page.write("Egg Wins")
        for tab in ("Write", "Compare", "Vote", "Look inside"):
            page.tab(tab)
            page.clean()
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in background[4:-1].split(",")[:3]) < 200) == dark
        assert len(screenshot(browser, tmp_path / "page.png")) > 10_000


class LoginPage(Page):
    """The page before a login."""

    def opened(self):
        self.until(lambda: self.browser.find_elements(By.CSS_SELECTOR, "input[type=password]"))

    def login(self, name, password):
        boxes = self.browser.find_elements(By.CSS_SELECTOR, "input, textarea")
        for box, text in zip(boxes, (name, password), strict=True):
            box.send_keys(text)
        boxes[-1].send_keys(Keys.ENTER)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_after_a_login_and_closes_after_logging_out(locked, tmp_path, dark, width):
    with chromium(dark=dark, width=width) as browser:
        if width < 500:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        door = LoginPage(browser, locked.url)
        assert "irony" not in browser.page_source.lower()
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in background[4:-1].split(",")[:3]) < 200) == dark
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert len(screenshot(browser, tmp_path / "login.png")) > 5_000
        # gradio has no form around the field, which Chromium would remember passwords for
        assert [said for said in complaints(browser) if "Password field is not contained in a form" not in said] == []
        door.login("anna", "egg loses")
        door.until(lambda: "Incorrect Credentials" in browser.find_element(By.TAG_NAME, "body").text)
        complaints(browser)  # the status 400
        door.login("anna", "egg wins")
        Page.opened(door)
        door.write("Egg Wins")
        door.tab("Vote")
        door.type("Egg Wins")
        door.press("Write")
        door.until(lambda: browser.find_element(By.ID, "vote_left").is_enabled())
        door.press("Left is funnier")
        door.until(lambda: door.value("answer").startswith("Left: "))
        door.clean()
        browser.find_element(By.LINK_TEXT, "Log out").click()
        door.opened()
        browser.back()
        door.opened()


def test_closing_a_tab_frees_the_model_within_two_seconds(serve):
    from gradio_client import Client

    server = serve("--model.max_new_tokens", "450")
    other = Client(server.url, verbose=False)
    with chromium() as browser:
        main = browser.current_window_handle
        for early in (True, False):
            browser.switch_to.new_window("tab")
            page = Page(browser, server.url)
            page.type("Egg Wins")
            page.press("Write")
            if not early:
                page.until(partial(page.value, "article1"))
            began = time.monotonic()
            browser.close()
            browser.switch_to.window(main)
            other.predict("Egg Wins", 1, seed=1, api_name="/write")
            assert time.monotonic() - began < 2
