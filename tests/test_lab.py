"""Each panel as a person uses it: JupyterLab in Debian's Chromium.

LP_ASRN_SCREENSHOTS=DIR keeps pictures of what was seen."""

import os
from pathlib import Path

import pytest
from lab import CHROMIUM, ERRORS, FLAGS, Lab, drag

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian, apt-get install chromium"),
    pytest.mark.xdist_group("lab"),
]  # one server, one browser

PICTURE = ".widget-image"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


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


SLIDERS = {
    "66_tools.degradation_bench.ipynb": ("blur", 0.95),
    "66b_tools.attention_viewer.ipynb": ("column", 0.1),
    "66d_tools.dataset_browser.ipynb": ("page", 0.5),
}


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_changes_the_picture(lab, page, name):
    lab.run_all(page, name)
    shoot(page, f"{name.split('_')[0]}_before")
    changes(page, lambda: drag(page, *SLIDERS[name]))
    shoot(page, f"{name.split('_')[0]}_after")
    assert not page.evaluate(ERRORS)


def test_a_training_is_started_paused_and_stopped(lab, page):
    lab.run_all(page, "66c_tools.training_panel.ipynb")
    state = lambda words: page.locator(".widget-html b", has_text=words).first.wait_for()
    press = lambda name: page.locator("button.jupyter-button", has_text=name).first.click()
    shoot(page, "66c_before")
    page.locator(".widget-checkbox input").first.check()  # afresh

    def begin():
        press("start")
        state("training")

    changes(page, begin)
    press("pause")
    state("paused")
    shoot(page, "66c_paused")
    press("continue")
    state("training")
    kernel = page.evaluate(
        "async () => (await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code: '1 + 1'}).done).content.status"
    )
    assert kernel == "ok" and page.locator(".widget-html b").first.inner_text() == "training", (
        "the kernel answers while the panel trains"
    )
    press("stop")
    state("stopped, its state is saved")
    shoot(page, "66c_stopped")
    press("start")  # goes on: afresh was for once
    page.locator(".widget-html pre", has_text="epoch 3/3").first.wait_for()
    press("stop")
    state("stopped")
    frame = page.frame_locator('iframe[id^="tensorboard-frame"]').last
    frame.locator("card-view, scalar-card").first.wait_for()
    assert not page.evaluate(ERRORS)
