"""The reading panel as a person uses it: JupyterLab in Debian's Chromium, mouse and keys alone.

LP_ASRN_SCREENSHOTS=DIR keeps pictures of what was seen."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from lab import CHROMIUM, ERRORS

from lp_asrn.plates.layouts import get_layout
from lp_asrn.plates.pictures import write_image
from lp_asrn.plates.scene import draw_clip, draw_photograph, write_clip

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian, apt-get install chromium"),
    pytest.mark.xdist_group("lab"),
]

CELL = "from lp_asrn.tools.panel import ReadingPanel\n\npanel = ReadingPanel()\npanel"
BOARD, READ = ".lp-board", ".says >> nth=0"  # what is read, as the headline has it
AWAKE = "() => !['wait'].includes(document.querySelector('.lp-board').style.cursor)"


class User:
    "Somebody with a mouse, whose clicks are counted: a drag is one, to type into a field is one"

    def __init__(self, page):
        self.page, self.clicks = page, 0

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("LP_ASRN_SCREENSHOTS"):
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=str(Path(folder) / f"panel_{name}.png"), full_page=True)

    def waits(self) -> None:
        "Until the panel listens again"
        self.page.wait_for_timeout(150)
        self.page.wait_for_function(AWAKE)
        self.page.wait_for_timeout(150)

    def clicks_on(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
        self.clicks += 1
        self.waits()

    def types(self, hint: str, text: str) -> None:
        field = self.page.locator(f"input[placeholder^='{hint}']")
        field.fill(text)
        field.press("Enter")
        self.clicks += 1
        self.waits()

    def at(self, point) -> tuple[float, float]:
        "Where a point of the picture is on the screen"
        board = self.page.locator(BOARD)
        zoom, x, y = map(float, board.get_attribute("data-view").split(","))
        frame = board.bounding_box()
        return frame["x"] + x + zoom * float(point[0]), frame["y"] + y + zoom * float(point[1])

    def drags(self, start, end) -> None:
        "From one point of the picture to another"
        (x, y), to = self.at(start), self.at(end)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(*to, steps=6)
        self.page.mouse.up()
        self.clicks += 1
        self.waits()

    def points(self, point) -> None:
        self.page.mouse.click(*self.at(point))
        self.clicks += 1
        self.waits()

    def sees(self, words: str) -> None:
        self.page.get_by_text(words).first.wait_for()

    def reads(self) -> str:
        return self.page.locator(READ).inner_text()

    def corners(self) -> list[list[float]]:
        return json.loads(self.page.locator(BOARD).get_attribute("data-corners"))

    def probability(self) -> str:
        return self.page.locator(".box p >> nth=0").inner_text()


@pytest.fixture
def user(browser, lab):
    "In front of a panel, in a window that asks nobody but this machine"
    page, asked = browser.new_page(viewport={"width": 1280, "height": 1500}), []
    page.on("request", lambda r: asked.append(r.url))
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook["metadata"] = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    notebook["cells"] = [
        {"cell_type": "code", "id": "one", "execution_count": None, "metadata": {}, "outputs": [], "source": CELL}
    ]
    path = lab.folder.parent / "panel_test.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    lab.run_all(page, path)
    page.set_default_timeout(30_000)
    page.locator("input[placeholder^='car.jpg']").wait_for()
    yield User(page)
    assert not page.evaluate(ERRORS)
    page.close()
    own = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:")
    assert not [url for url in asked if not url.startswith(own)]


def around(corners: np.ndarray, away: float = 8) -> tuple[np.ndarray, np.ndarray]:
    return corners.min(0) - away, corners.max(0) + away


def test_from_a_photograph_to_a_report_in_ten_clicks(user, tmp_path):
    scene = draw_photograph("ABC1D23", get_layout("mercosur-br"), np.random.default_rng(7), "medium", (50, 56))
    write_image(tmp_path / "car.png", scene.picture)
    user.shoot("0_empty")
    user.types("car.jpg", str(tmp_path / "car.png"))
    user.clicks_on("Load")
    user.sees("Drag a box")
    user.shoot("1_loaded")
    user.drags(*around(scene.corners))
    user.sees("The rectifier proposes")
    assert user.reads() == "ABC1D23"
    user.shoot("2_read")
    before = user.probability()
    corner = user.corners()[2]
    user.drags(corner, np.array(corner) + (6, 4))
    user.sees("Read between your corners")
    assert user.probability() != before
    user.shoot("3_dragged")
    after, read = user.corners(), user.probability()
    user.drags(after[2], np.array(after[0]) - (9, 9))  # over the others
    user.sees("the corners cross")
    assert user.corners() == after and user.probability() == read, "what is refused is taken back"
    user.types("a new folder", str(tmp_path / "case"))
    user.clicks_on("Save report")
    user.sees("Saved:")
    user.shoot("4_saved")
    assert (tmp_path / "case" / "case.html").is_file() and (tmp_path / "case" / "labels.csv").is_file()
    print(user.clicks, "clicks")
    assert user.clicks <= 10
    user.clicks_on("Save report")
    user.sees("name another folder")
    user.types("??K", "????B??")
    user.sees("taken as true, because")
    assert user.page.locator("table .text").first.inner_text()[4] == "B"
    user.shoot("5_known")
    user.page.locator(BOARD).focus()
    user.page.keyboard.press("Escape")
    user.waits()
    assert not user.page.locator(READ).count()


def test_four_corners_where_the_rectifier_is_unsure(user, tmp_path):
    scene = draw_photograph("ABC1D23", get_layout("mercosur-br"), np.random.default_rng(7), "medium", (50, 56))
    write_image(tmp_path / "car.png", scene.picture)
    user.types("car.jpg", str(tmp_path / "gone.png"))
    user.clicks_on("Load")
    user.sees("no such file")
    user.types("car.jpg", str(tmp_path / "car.png"))
    user.clicks_on("Load")
    user.drags((4, 4), (34, 30))
    user.sees("No plate is found surely")
    user.shoot("6_unsure")
    user.page.mouse.dblclick(*user.at((20, 20)))  # all of the picture, and no corner
    x, y = user.at(scene.corners.mean(0))
    user.page.mouse.move(x, y)
    user.page.mouse.wheel(0, -600)
    user.page.wait_for_timeout(200)
    assert np.allclose(user.at(scene.corners.mean(0)), (x, y), atol=4), "the wheel zooms where the mouse is"
    for point in scene.corners:
        user.points(point)
    user.sees("Read between your corners")
    assert user.reads() == "ABC1D23"
    user.shoot("7_clicked")


def test_a_clip_is_followed_and_grows(user, tmp_path):
    clip = list(draw_clip("ABC1D23", get_layout("mercosur-br"), np.random.default_rng(6), 13, "medium", (34, 38)))
    write_clip(tmp_path / "clip.avi", (s.picture for s in clip))
    user.types("car.jpg", str(tmp_path / "clip.avi"))
    user.clicks_on("Load")
    user.drags(*around(clip[0].corners, 6))
    user.sees("The rectifier proposes")
    user.shoot("8_clip")
    user.clicks_on("Follow")
    user.sees("through 10 others")
    user.sees("How the reading grows")
    user.shoot("9_followed")
    user.page.get_by_label("leave this frame out").check()
    user.waits()
    user.sees("This frame is left out")
    count = user.page.get_by_text("read together").first.inner_text()
    assert count == "11 frames marked, 10 read together" and user.reads() == "ABC1D23"
