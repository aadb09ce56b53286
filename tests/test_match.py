"lp_asrn match: what a program that calls it relies on, and input of every wrong kind"

import csv
import io
import json

import numpy as np
import pytest
from helpers import refused, run

from lp_asrn import Reader
from lp_asrn.config import DATA_DIR
from lp_asrn.files import list_images
from lp_asrn.plates.corners import format_corners, whole
from lp_asrn.plates.layouts import LAYOUTS
from lp_asrn.plates.pictures import read_image
from lp_asrn.tools.match_command import COLUMNS

EXAMPLES = DATA_DIR / "examples"
CROPS = list_images(EXAMPLES)
LISTED = [p.stem for p in CROPS[::2]]  # of the eight


@pytest.fixture
def plates(tmp_path):
    "A list of 2,004 plates, with four of the examples"
    rng = np.random.default_rng(1)
    texts = [LAYOUTS[name].draw_text(rng) for name in LAYOUTS for _ in range(500)]
    path = tmp_path / "plates.csv"
    path.write_text("\n".join(["owner;plate_text", *(f"A;{t}" for t in [*texts, *LISTED])]))
    return path


def as_json(*words):
    "What is found, by file"
    outcome = run("match", *words, "--json")
    assert outcome.code == 0, outcome.err
    return {m["file"]: m for m in json.loads(outcome.out)}


def test_lines_json_and_csv_say_the_same(plates):
    words = EXAMPLES, "--list", plates, "--top", 4
    found, lines, rows = as_json(*words), run("match", *words).out.splitlines(), run("match", *words, "--csv").out
    rows = list(csv.DictReader(io.StringIO(rows)))
    assert list(rows[0]) == COLUMNS and len(rows) == 4 * len(CROPS) == 4 * len(lines) == 4 * len(found)
    for path, line in zip(CROPS, lines):
        m, own = found[path.name], [r for r in rows if r["file"] == path.name]
        ranked = [(m["text"], m["confidence"]), *m["alternatives"]]
        assert [r["plate_text"] for r in own] == [t for t, _ in ranked] and [r["rank"] for r in own] == list("1234")
        assert all(abs(float(r["probability"]) - p) < 1e-5 for r, (_, p) in zip(own, ranked))
        assert sum(p for _, p in ranked) + m["none"] <= 1 + 1e-6
        answer = m["text"] if m["confidence"] > m["none"] else "none"
        assert line.split("\t")[:2] == [path.name, answer] and f"{max(m['confidence'], m['none']):.3f}" in line
    answers = [found[p.name]["text"] if found[p.name]["confidence"] > 0.5 else "none" for p in CROPS]
    wrong = [a for a, p in zip(answers, CROPS) if a not in ("none", p.stem)]
    assert not wrong and sum(a == p.stem for a, p in zip(answers, CROPS) if p.stem in LISTED) >= 2


def test_a_prior_moves_the_odds(plates, tmp_path):
    "--absent does what Bayes says, and so does the weight of a plate"
    crop = CROPS[0]
    usual, rare, never = (as_json(crop, "--list", plates, "--absent", a)[crop.name] for a in (0.5, 0.9, 0))
    odds = [m["none"] / (1 - m["none"]) for m in (usual, rare)]
    assert np.isclose(odds[1] / odds[0], 9, rtol=1e-3) and never["none"] == 0
    two = tmp_path / "two.csv"
    two.write_text("plate_text,weight\nABC1234,1\nABC1235,3\n")
    (m,) = as_json(crop, "--list", two, "--absent", 0).values()
    two.write_text("plate_text,weight\nABC1234,1\nABC1235,1\n")
    (same,) = as_json(crop, "--list", two, "--absent", 0).values()
    a, b = ({x["text"]: x["confidence"], **dict(x["alternatives"])} for x in (m, same))
    assert a["ABC1235"] > b["ABC1235"]


def test_a_list_may_be_a_text_and_says_what_it_cannot_use(tmp_path):
    path = tmp_path / "plates.txt"
    path.write_text("\n".join(["abc-1234", "ABC1234", "HELLO\x1b[31m", "12", *(t.lower() for t in LISTED)]))
    outcome = run("match", CROPS[0], "--list", path)
    assert outcome.code == 0 and "\x1b" not in outcome.err + outcome.out
    first, second = outcome.err.splitlines()
    assert "2 of 8 plates" in first and "'HELLO\\x1b[31m', '12'" in first and "1 of 8 plates" in second


def test_a_track_is_one_answer_and_corners_count(plates, tmp_path):
    folder = tmp_path / "track"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(CROPS[0].read_bytes())
    (single,) = as_json(CROPS[0], "--list", plates).values()
    (track,) = as_json(folder, "--track", "--list", plates).values()
    assert track["frames"] == 3 and track["text"] == single["text"] and track["misfit"] is None
    crop = read_image(CROPS[0])
    table = "image_path,plate_text,corners\n" + "".join(f'{k}.png,,"{format_corners(whole(crop))}"\n' for k in range(3))
    (folder / "labels.csv").write_text(table)
    marked = as_json(folder, "--list", plates)
    (wide,) = as_json(CROPS[0], "--list", plates, "--no-rectify").values()
    assert all(m["doubt"] == 0 and abs(m["none"] - wide["none"]) < 1e-3 for m in marked.values())


def test_evidence_is_drawn_and_nothing_is_written_over(plates, tmp_path):
    out = tmp_path / "evidence"
    outcome = run("match", CROPS[0], CROPS[1], "--list", plates, "--evidence", out)
    assert outcome.code == 0 and sorted(p.name for p in out.iterdir()) == [p.name for p in CROPS[:2]]
    assert outcome.out.count("evidence: ") == 2 and "none of the list" in outcome.out
    before = [p.read_bytes() for p in sorted(out.iterdir())]
    refused(run("match", CROPS[0], "--list", plates, "--evidence", out), "--overwrite", CROPS[0].name)
    assert run("match", CROPS[0], "--list", plates, "--evidence", out, "--overwrite").code == 0
    assert [p.read_bytes() for p in sorted(out.iterdir())] == before
    own = tmp_path / "in" / "plates.png"
    own.parent.mkdir()
    own.write_bytes(CROPS[0].read_bytes())
    refused(run("match", own, "--list", plates, "--evidence", own.parent, "--overwrite"), "its own input")


def test_a_broken_picture_among_others(plates, picture, tmp_path):
    picture("in/good.png")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    outcome = run("match", tmp_path / "in", "--list", plates, "--json")
    assert outcome.code == 1 and [m["file"] for m in json.loads(outcome.out)] == ["good.png"]
    assert "skipped" in outcome.err and "bad.png" in outcome.err
    refused(run("match", tmp_path / "in" / "bad.png", "--list", plates), "not a picture")


def test_weights_without_a_calibration_or_a_second_reader(plates, untrained):
    "They rank too, and say so"
    outcome = run("match", CROPS[0], "--list", plates, "--checkpoint", untrained, "--json")
    (m,) = json.loads(outcome.out)
    assert outcome.code == 0 and not m["calibrated"] and "no calibration" in outcome.err and m["misfit"] is None


WRONG = {
    "": "no plate",
    "\n \n": "no plate",
    "plate_text\n\n": "no plate",
    "owner,place\nA,B\n": "no column 'plate_text'",
    "what\nHELLO\n": "no plate of the list fits a layout",
    'plate_text\n"ABC1234\n': "not a CSV file",
    "plate_text,weight\nABC1234,-1\n": "line 2: weight '-1'",
    "plate_text,weight\nABC1234\n": "line 2: weight ''",
    "plate_text,weight\nABC1234,inf\n": "weight 'inf'",
    "\0\1\2,\xff": "no",
}


@pytest.mark.parametrize("content", WRONG)
def test_a_list_of_no_use_is_refused_in_a_line(content, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(content.encode("latin-1"))
    refused(run("match", CROPS[0], "--list", path), WRONG[content])


def test_wrong_words_are_refused_in_a_line(plates, tmp_path):
    crop, known = CROPS[0], ("--list", plates)
    refused(run("match", *known), "give pictures")
    refused(run("match", crop), "--list")
    refused(run("match", crop, "--list", tmp_path / "gone.csv"), "no such file", "gone.csv")
    refused(run("match", crop, "--list", tmp_path), "is a folder")
    refused(run("match", tmp_path / "gone.png", *known), "no such file", "gone.png")
    refused(run("match", crop, *known, "--json", "--csv"), "exclude each other")
    refused(run("match", crop, crop, *known, "--track"), "--track wants one folder")
    refused(run("match", crop, *known, "--track"), "--track wants a folder")
    refused(run("match", crop, *known, "--layouts", "french"), "french")
    refused(run("match", crop, *known, "--checkpoint", "none"), "no such checkpoint")
    refused(run("match", crop, *known, "--lst", "x"), "--list")
    for word, value, said in (("absent", 1, "below 1"), ("absent", -0.1, "at least 0"), ("top", 0, "at least 1")):
        refused(run("match", crop, *known, f"--{word}", value), f"--{word}", said)
    for value in ("nan", "much"):
        refused(run("match", crop, *known, "--absent", value), "--absent")


def test_only_the_layouts_that_may_occur_are_matched(plates):
    outcome = run("match", CROPS[0], "--list", plates, "--layouts", "argentina-old", "--json")
    (m,) = json.loads(outcome.out)
    assert m["layout"] == "argentina-old" and all(len(t) == 6 for t in [m["text"], *dict(m["alternatives"])])
    assert "fit no layout" in outcome.err
    known = set(Reader(layouts=["argentina-old"]).combined.grammar.masks)
    assert known == {"LLLDDD"}
