"""Each panel as a person uses it: JupyterLab in Debian's Chromium.

LP_ASRN_SCREENSHOTS=DIR keeps pictures of what was seen."""

import os
from pathlib import Path

import pytest
from lab import CHROMIUM, ERRORS, drag

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian, apt-get install chromium"),
    pytest.mark.xdist_group("lab"),
]  # one server, one browser

PICTURE = ".widget-image"


@pytest.fixture
def page(browser, lab):
    "A window, which asks nobody but this machine"
    window, asked = browser.new_page(viewport={"width": 1280, "height": 1100}), []
    window.on("request", lambda r: asked.append(r.url))
    window.on("websocket", lambda w: asked.append(w.url))
    yield window
    outside = [
        url
        for url in asked
        if not url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "ws://127.0.0.1:"))
    ]
    window.close()
    assert not outside


def shoot(page, name: str) -> None:
    if folder := os.environ.get("LP_ASRN_SCREENSHOTS"):
        page.locator(PICTURE).first.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def changes(page, act) -> None:
    "Do something, and see the panel's picture change"
    shown = page.locator(PICTURE).first
    shown.wait_for()
    before = shown.get_attribute("src")
    act()
    page.wait_for_function(
        "([selector, old]) => document.querySelector(selector).src != old", arg=[PICTURE, before], polling=100
    )


def test_a_slider_changes_the_picture(lab, page):
    lab.run_all(page, "612_widgets.ipynb")
    shoot(page, "68_before")
    changes(page, lambda: drag(page, "blur", 0.95))
    shoot(page, "68_after")
    assert not page.evaluate(ERRORS)
