"""Headless Chromium for pages that must work offline."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService


@contextmanager
def chromium(dark: bool = False, width: int = 1280, height: int = 900) -> Iterator[Chrome]:
    """Start a browser that records its console and every request."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(str(shutil.which("chromedriver"))))
    try:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        yield browser
    finally:
        browser.quit()


def requests(browser: Chrome) -> list[str]:
    """Return the requested URLs, without `data:` ones."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]


def complaints(browser: Chrome) -> list[str]:
    """Return the messages in the console."""
    return [entry["message"] for entry in browser.get_log("browser")]


def screenshot(browser: Chrome, file: Path) -> bytes:
    browser.save_screenshot(str(file))
    return file.read_bytes()
