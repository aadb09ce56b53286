"""The page of `lp_asrn read --report`: what a user types, and what a browser makes of it.

LP_ASRN_SCREENSHOTS=DIR keeps pictures of what was seen."""

import json
import os
import re
import shlex
import zlib
from hashlib import sha256
from pathlib import Path

import cv2
import pytest
from helpers import refused, run
from test_export import alone

from lp_asrn.config import DATA_DIR

EXAMPLES = DATA_DIR / "examples"
HOSTILE = [  # names of files; a name may have no more than 255 bytes
    '"><script>alert(1)<!--.png',
    '"><img src=x onerror=alert(1)>.png',
    "' onload='alert(1).png",
    "</title></style><svg onload=alert(1)>.png",
    "javascript:alert(1).png",
    "$(touch owned) ${title} {{7*7}}.png",
    "a\u202egnp.exe\u200f\u2066.png",
    "line\nbreak\r\x1b[31m\x07.png",
    "\u05d0\u05d1\u05d2 1234.png",
    "x" * 251 + ".png",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Pages of crops with ordinary names, of crops with hostile ones, and of tracks: name -> path"
    folder = tmp_path_factory.mktemp("pages")
    found = {n: folder / f"{n}.html" for n in ("plain", "hostile", "tracks")}
    some = sorted(EXAMPLES.glob("*.png"))
    (folder / "hostile").mkdir()
    for k, name in enumerate(HOSTILE):
        (folder / "hostile" / name).parent.mkdir(parents=True, exist_ok=True)  # a name may be that of folders, too
        (folder / "hostile" / name).write_bytes(some[k % len(some)].read_bytes())
    (folder / "hostile" / "<b>no picture.png").write_text("none")
    for k in range(9):
        inner = folder / "tracks" / ("one" if k < 8 else "two")
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{k}.png").write_bytes((EXAMPLES / "DJB5841.png").read_bytes())
    ends = [
        run("read", *some[:3], "--report", found["plain"], "--max-error", 0.02),
        run("read", folder / "hostile", "--report", found["hostile"], "--json"),
        run("read", "--track", folder / "tracks", "--report", found["tracks"], "--layouts", "brazilian", "--csv"),
    ]
    assert [e.code for e in ends] == [0, 1, 0], ends
    return found


def shown(page: str) -> str:
    "Its text, more or less"
    words = re.sub("<[^>]+>", " ", re.sub("</?(bdi|span|b)( [^>]*)?>", "", page.partition("<body>")[2]))
    return " ".join(words.split())


def test_all_of_a_reading_is_on_its_page(tmp_path):
    "With corners that somebody marked, and what --json says"
    crop, target = tmp_path / "DJB5841.png", tmp_path / "pages" / "case.html"
    crop.write_bytes((EXAMPLES / crop.name).read_bytes())
    (tmp_path / "labels.csv").write_text('image_path,plate_text,corners\nDJB5841.png,,"5,5 40,5 38,19 3,19"\n')
    done = run("read", crop, "--report", target, "--json", "--no-thorough")
    assert done.code == 0, done
    (r,), page = json.loads(done.out), target.read_text()
    words = shown(page)
    assert all(text in words for text in (r["text"], *(t for t, _ in r["alternatives"]), r["layout"]))
    assert f"{100 * r['confidence']:.1f} %" in words and f"{100 * r['alternatives'][0][1]:.1f} %" in words
    assert sha256(crop.read_bytes()).hexdigest() in words and f" {crop.stat().st_size} " in words
    assert "5.00,5.00 40.00,5.00 38.00,19.00 3.00,19.00" in words and " given " in words
    note = json.loads((DATA_DIR / "small" / "config.json").read_text())
    readings = note["calibration"]["lr"]["readings"]
    assert "no further look" in words and f"{readings} readings" in words and "No error rate was asked for" in words
    for path in (DATA_DIR / "small").iterdir():
        assert path.suffix == ".md" or sha256(path.read_bytes()).hexdigest() in words, path
    command = shlex.join(["lp_asrn", "read", str(crop), "--no-thorough", "--json", "--report", str(target)])
    assert command in words and os.getcwd() in words
    again = [*shlex.split(command)[1:], "--overwrite"]
    assert run(*again).code == 0
    kept = [re.sub(r"on \d{4}-\d\d-\d\d [\d:]+", "", line) for line in page.splitlines()]
    made = (
        target.read_text()
        .replace(" --overwrite</bdi>", "</bdi>")
        .replace("overwrite</bdi></td><td><bdi>True", "overwrite</bdi></td><td><bdi>False")
    )
    assert kept == [re.sub(r"on \d{4}-\d\d-\d\d [\d:]+", "", line) for line in made.splitlines()], "the same again"


def test_what_is_withheld_is_no_headline(pages):
    "At an error rate of 2 % most of the examples are withheld"
    page = pages["plain"].read_text()
    heads = re.findall('<section.*?<div class="row">', page, re.S)
    withheld = [h for h in heads if "Withheld: no reading is given" in h]
    assert len(heads) == 3 and withheld and not any('class="says"' in h for h in withheld)
    assert all("Asked for: at most 2 % wrong" in h for h in heads)


def test_a_page_overwrites_nothing_unasked(tmp_path, picture):
    crop = picture("in/a.png")
    there = tmp_path / "there.html"
    there.write_text("mine")
    (tmp_path / "in" / "page.html").write_bytes(crop.read_bytes())
    link = tmp_path / "in" / "b.png"
    link.symlink_to(tmp_path / "in" / "page.html")
    refused(run("read", crop, "--report", there), "there.html", "--overwrite")
    refused(
        run("read", link, "--report", tmp_path / "in" / "page.html", "--overwrite"), "would overwrite its own input"
    )
    for name in ("labels.csv", "page", "a.png", "page.html.gz"):
        refused(run("read", crop, "--report", tmp_path / name, "--overwrite"), "--report", "must end in .html")
    refused(run("read", crop, "--report", tmp_path / "in" / "a.png" / "x.html"), "not a folder")
    assert there.read_text() == "mine" and not (tmp_path / "labels.csv").exists()
    assert run("read", crop, "--report", there, "--overwrite").code == 0 and there.read_text().startswith("<!DOCTYPE")


def test_a_page_is_bounded(tmp_path):
    one = (EXAMPLES / "DJB5841.png").read_bytes()
    for k in range(201):
        (tmp_path / f"{k}.png").write_bytes(one)
    refused(run("read", tmp_path, "--report", tmp_path / "x.html"), "201 plates", "at most 200", "read a part of them")
    large = cv2.resize(cv2.imread(str(EXAMPLES / "DJB5841.png")), (3000, 2000))
    cv2.imwrite(str(tmp_path / "large.png"), large)
    assert run("read", tmp_path / "large.png", "--report", tmp_path / "x.html").code == 0
    assert (tmp_path / "x.html").stat().st_size < 1e6 and "shown reduced to 256 x" in (tmp_path / "x.html").read_text()


def test_a_page_of_untrained_models_promises_nothing(tmp_path, untrained):
    "They have no calibration and no card"
    done = run("read", "--example", "--checkpoint", untrained, "--device", "cpu", "--report", tmp_path / "x.html")
    assert done.code == 0, done
    words = shown((tmp_path / "x.html").read_text())
    assert (
        words.count("were not calibrated") == 8
        and "not measured, or is not known here" in words
        and "PyTorch on cpu" in words
    )
    assert sha256(untrained.read_bytes()).hexdigest() in words and "rendered plates" not in words
    odds = words.partition("How far to trust")[0]
    assert " %" not in odds and " to 1 " not in odds and "nothing: not calibrated" in words


def test_a_page_needs_no_extra(tmp_path):
    found = alone("read", EXAMPLES / "DJB5841.png", "--report", tmp_path / "x.html")
    assert not found.returncode and "onnxruntime" in (tmp_path / "x.html").read_text(), found.stderr


# ---- in a browser


@pytest.fixture
def opened(browser):
    "Opens a page and sees that nothing runs, nothing is asked of anybody, and nothing is amiss"
    window, seen = browser.new_page(viewport={"width": 1000, "height": 1200}), []
    for event in ("dialog", "pageerror", "popup", "download"):
        window.on(event, lambda what, event=event: seen.append((event, str(what))))
    window.on("console", lambda m: seen.append(("console", m.text)))
    window.on("request", lambda r: r.url.startswith(("file:", "data:")) or seen.append(("request", r.url)))

    def see(path: Path):
        window.goto(path.as_uri())
        assert window.url == path.as_uri() and window.evaluate("document.readyState") == "complete"
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert window.evaluate(broken) == 0 and window.locator("img").count() > 5
        if folder := os.environ.get("LP_ASRN_SCREENSHOTS"):
            window.screenshot(path=str(Path(folder) / f"report_{path.stem}.png"), full_page=True)
        return window

    yield see
    window.close()
    assert not seen


def pdf_text(pdf: bytes) -> str:
    "Characters that its pages draw, by the tables that say which glyph is which"
    streams = []
    for found in re.finditer(rb"stream\r?\n", pdf):
        try:
            streams.append(zlib.decompressobj().decompress(pdf[found.end() :]).decode("latin-1"))
        except zlib.error:
            pass
    tables = []
    for s in (s for s in streams if "begincmap" in s):
        table = {}
        for block in re.findall(r"beginbfchar(.*?)endbfchar", s, re.S):
            table |= {int(a, 16): chr(int(b[:4], 16)) for a, b in re.findall(r"<(\w+)> <(\w+)>", block)}
        for block in re.findall(r"beginbfrange(.*?)endbfrange", s, re.S):
            for a, b, c in re.findall(r"<(\w+)> <(\w+)> <(\w+)>", block):
                table |= {k: chr(int(c, 16) + k - int(a, 16)) for k in range(int(a, 16), int(b, 16) + 1)}
        tables.append(table)
    drawn = [re.findall(r"<([0-9A-Fa-f]+)> Tj", s) for s in streams if " Tj" in s]
    codes = [[int(x[k : k + 4], 16) for x in words for k in range(0, len(x), 4)] for words in drawn]
    return "\n".join("".join(t.get(c, "") for c in page) for t in tables for page in codes)


@pytest.mark.parametrize("name", ["plain", "tracks"])
def test_a_page_is_read_and_printed(opened, pages, name):
    window = opened(pages[name])
    words = window.locator("body").inner_text()
    marked = window.locator("figure", has_text="SR").all()
    assert marked and all("NOT EVIDENCE" in m.inner_text() for m in marked)
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    texts = {t.inner_text() for t in window.locator("section .text").all()}
    assert len(texts) >= 4 and texts <= set(words.split())
    printed = window.pdf(prefer_css_page_size=True)
    said = pdf_text(printed)
    assert all(t in said for t in {*texts, "NOT EVIDENCE"}), "readings are printed as text, and what SR is"
    height, width = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed).groups()[::-1]
    assert abs(float(width) - 595) < 2 and abs(float(height) - 842) < 2, "A4"
    plates = window.locator("section").count()
    assert plates < len(re.findall(rb"/Type /Page\b", printed)) <= 3 * plates + 4
    window.set_viewport_size({"width": 400, "height": 800})
    assert window.locator(".box").first.bounding_box()["width"] < 400


def test_hostile_names_are_inert(opened, pages):
    "They are shown as what they are, and nothing that they say is done"
    window = opened(pages["hostile"])
    words, title = window.locator("body").inner_text(), window.title()
    assert title == f"Case report: {len(HOSTILE)} plates"
    for name in HOSTILE:
        told = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
        assert words.count(told) >= 3, told  # contents, heading, table of files
    assert "<b>no picture.png" in words and window.locator("script, iframe, object, embed, form, link").count() == 0
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x1b\x07]", words)
    handlers = (
        "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => /^on/i.test(a.name))).length"
    )
    assert window.evaluate(handlers) == 0
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the longest name is broken, too"


def test_the_policy_of_a_page_holds(browser, pages, tmp_path):
    "Had something got in, it would still neither run nor load"
    added = "<script>document.title = 'ran'</script><img src=nowhere.png onerror=\"document.title = 'ran'\">"
    added += "<iframe src=other.html></iframe><style>@import 'other.css'; h1 { background: url(other.png) }</style>"
    page = pages["plain"].read_text()
    window, asked = browser.new_page(), []
    window.on("requestfinished", lambda r: asked.append(r.url))
    for kept, policy in ((True, page), (False, re.sub("<meta http-equiv[^>]*>", "", page))):
        (tmp_path / "x.html").write_text(policy.replace("</body>", f"{added}</body>"))
        window.goto((tmp_path / "x.html").as_uri())
        assert (window.title() != "ran") == kept, "without the policy it would"
        assert not kept or [u for u in asked if not u.startswith("data:")] == [(tmp_path / "x.html").as_uri()]
    window.close()
