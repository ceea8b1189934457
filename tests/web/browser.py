"""A headless Chromium: Debian's, driven through its own driver."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en")
HEIGHT = 1200


@contextmanager
def browser(width: int = 900) -> Iterator[webdriver.Chrome]:
    """Open a browser with a window of a width; it logs its console and its requests."""
    options = Options()
    options.binary_location = CHROMIUM
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        resize(driver, width)
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int = 900, scheme: str = "light") -> None:
    """Give the window a width, and prefer a colour scheme."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def console(driver: webdriver.Chrome) -> list[str]:
    """What the console has said since the last call."""
    return [entry["message"] for entry in _log(driver, "browser")]


def requested(driver: webdriver.Chrome) -> set[str]:
    """The addresses that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in _log(driver, "performance")]
    return {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}


def _log(driver: webdriver.Chrome, kind: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return found
