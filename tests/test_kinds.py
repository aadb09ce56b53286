"""Generated inputs of every kind that an attack has found, each seen to end well, in one line, with nothing lost

LP_ASRN_HOSTILE=10 pytest tests/test_kinds.py takes ten times as many. How many of each kind there were is
printed in the end."""

import csv
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, environment
from hostile import (
    MORE,
    NAMES,
    SETTINGS,
    THINGS,
    _deep,
    attack,
    bombs,
    contents,
    crop,
    encoded,
    labelme_files,
    names,
    notes,
    pictures,
    printable,
    tables,
    watched,
    with_note,
)
from PIL import Image

from lp_asrn.config import UserError
from lp_asrn.models.folders import read_note, weights_path
from lp_asrn.plates.pictures import read_image

SMALL = weights_path("small")


pytestmark = pytest.mark.usefixtures("quick_reader")


@pytest.fixture
def count(record_property):
    "count(kind, number): how many inputs a test took; the sums are printed in the end (conftest.py)"
    return lambda kind, number: record_property("hostile", (kind, number))


@pytest.fixture
def good(tmp_path):
    "A folder with a plate that is right, and a file of the user's"
    (tmp_path / "in").mkdir()
    crop().save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "labels.csv").write_text("image_path,plate_text\na.png,ABC1234\n")
    return tmp_path / "in"


# Names


def test_pictures_by_any_name(tmp_path, count):
    known, folder = names(60 * MORE, 1), tmp_path / "in"
    folder.mkdir()
    for name in known:
        (folder / f"{name}.png").write_bytes(encoded("PNG"))
    before, there = contents(folder), sum(not name.startswith(".") for name in known)
    attack("enhance", folder, tmp_path / "out", codes=(0,), seconds=60 * MORE)
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(
        n for n in os.listdir(os.fsencode(folder)) if not n.startswith(b".")
    )
    for words, rows in (
        ([], lambda out: out.splitlines()),
        (["--csv"], lambda out: list(csv.reader(io.StringIO(out)))[1:]),
        (["--json"], json.loads),
    ):
        said = attack("read", folder, *words, codes=(0,), seconds=60 * MORE).out
        assert len(rows(said)) == there, "a name makes no line of its own"
    checked = attack("data", "check", folder, "--all", codes=(2,))
    (folder / "labels.csv").write_text("image_path,plate_text\n")
    checked = attack("data", "check", folder, "--all", codes=(1,))
    assert f"unmatched: {there}" in checked.out and "no fault" not in checked.out.splitlines()
    (folder / "labels.csv").unlink()
    assert contents(folder) == before
    count("names", 5 * len(known))


VERBS = {
    "read": lambda n: ["read", n],
    "layouts": lambda n: ["read", "a.png", "--layouts", f"{n}.yaml"],
    "checkpoint": lambda n: ["read", "a.png", "--checkpoint", n],
    "graph": lambda n: ["read", "a.png", "--checkpoint", f"{n}.onnx"],
    "enhance": lambda n: ["enhance", n, "out"],
    "data": lambda n: ["data", "check", n],
    "runs": lambda n: ["runs", n],
    "pack": lambda n: ["runs", "pack", n, "out"],
    "unpack": lambda n: ["runs", "unpack", n, "out"],
    "evaluate": lambda n: ["evaluate", "--checkpoint", n],
    "severity": lambda n: ["synth", "out", "--severity", n],
    "judge": lambda n: ["read", "a.png", "--device", n],
    "verb": lambda n: [f"x{n}"],
    "crop": lambda n: ["crop", n, "out", "--box", "1,2,30,12"],
    "video": lambda n: ["crop", f"{n}.avi", "out", "--box", "1,2,30,12"],
    "table": lambda n: ["crop", "a.png", "out", "--table", n],
    "detector": lambda n: ["crop", "a.png", "out", "--detector", n],
    "submission": lambda n: ["read", "a.png", "--submission", n],
    "match": lambda n: ["match", n, "--list", "labels.csv"],
    "list": lambda n: ["match", "a.png", "--list", n],
    "calibrate": lambda n: ["calibrate", "c.json", "--data-root", n],
}


@pytest.mark.parametrize("where", VERBS)
def test_what_is_not_there_is_named_in_a_line(where, good, monkeypatch, count):
    monkeypatch.chdir(good)
    known = [n for n in names(len(NAMES) * MORE, 2) if not n.startswith("-") and n not in ("..",)]
    before = contents(good)
    for name in known:
        attack(*VERBS[where](name))
    assert contents(good) == before
    count("names", len(known))


def test_folders_to_write_to_by_any_name(good, count):
    known, before = [n for n in names(len(NAMES) * MORE, 3) if n not in ("..",)], contents(good)
    for i, name in enumerate(known):
        out = good.parent / "all" / name
        attack("enhance", good / "a.png", out, codes=(0,))
        assert os.listdir(os.fsencode(out)) == [b"a.png"]
        attack("enhance", good / "a.png", out / f"{name[:200]}.jpg", codes=(0,))
        if i % 10 == 0 or MORE > 1:
            attack("read", good / "a.png", "--evidence", out / "evidence", codes=(0,))
    for name in known[:: 4 if MORE == 1 else 1]:
        attack("synth", good.parent / "rendered" / name, "--n", 1, codes=(0,))
        said = attack("data", "check", good.parent / "rendered" / name, codes=(0,)).out
        assert said.splitlines()[-1] == "no fault" and said.count("no fault\n") == 1
    assert contents(good) == before
    count("names", 3 * len(known))


# Things that are not files


def _picture(place):
    return place / "a.png", [["read", place / "a.png"], ["enhance", place / "a.png", place / "out"]], (2,)


def _in_folder(place):
    crop().save(place / "b.png")
    return place / "a.png", [["read", place], ["enhance", place, place.parent / "out", "--overwrite"]], (1,)


def _given(word, *before):
    return lambda place: (place / word, [[*before, place / word]], (2,))


def _beside(name):
    "A file beside a picture that tells of it, or a list of them"

    def made(place):
        crop().save(place / "a.png")
        return place / name, [["data", "check", place]], (0, 1, 2)

    return made


def _labelme(place):
    crop().save(place / "a.png")
    return place / "a.json", [["read", place / "a.png"]], (0, 2)


def _labelled(place):
    (place / "a.json").write_text(
        json.dumps({"shapes": [{"points": [[1, 1], [60, 1], [60, 25], [2, 25]]}], "imageWidth": 70, "imageHeight": 28})
    )
    return place / "a.png", [["read", place / "a.png"]], (2,)


def _row(column):
    def made(place):
        crop().save(place / "b.png")
        row = {"image_path": "b.png", "plate_text": "ABC1234", "lr_path": "b.png"} | {column: "a.png"}
        (place / "labels.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
        return place / "a.png", [["data", "check", place]], (1, 2)

    return made


def _font(place):
    layout = "own:\n  mask: LLLDDDD\n  aspect: 3\n  fonts: {a.ttf: 1}\n  characters: {box: [0, 0, 1, 1]}\n"
    layout += "  styles: {white: {plate: [250, 250, 250], ink: [0, 0, 0]}}\n"
    (place / "a.yaml").write_text(layout)
    return place / "a.ttf", [["synth", place / "out", "--n", 1, "--layouts", place / "a.yaml"]], (2,)


def _out(verb, name, *words):
    "Where a command shall write"

    def made(place):
        crop().save(place / "a.png")
        words_ = [str(w).replace("IN", str(place / "a.png")).replace("OUT", str(place / name)) for w in words]
        return place / name, [[verb, *words_]], (0, 2)

    return made


PLACES = {
    "picture": _picture,
    "picture of a folder": _in_folder,
    "picture with labelme": _labelled,
    "labelme": _labelme,
    "labels.csv": _beside("labels.csv"),
    "split.txt": _beside("split.txt"),
    "list": _beside("list.txt"),
    "image_path": _row("image_path"),
    "lr_path": _row("lr_path"),
    "data folder": _given("data", "data", "check"),
    "runs": _given("runs", "runs"),
    "config": _given("a.yaml", "train", "--save-dir", "/nonexistent/x", *TINY, "--stage", 2, "--config"),
    "layouts": _given("a.yaml", "synth", "/nonexistent/x", "--layouts"),
    "font": _font,
    "weights": _given("a.safetensors", "read", "--example", "--checkpoint"),
    "start": _given("a.safetensors", "train", "--save-dir", "/nonexistent/x", "--stage", 1, "--training.start-from"),
    "graph": _given("a.onnx", "read", "--example", "--checkpoint"),
    "track": _given("track", "read", "--track"),
    "results": _given("results", "ablate", "--table", "--results"),
    "enhanced": _out("enhance", "out", "IN", "OUT"),
    "enhanced file": _out("enhance", "out.png", "IN", "OUT"),
    "enhanced over": _out("enhance", "out.png", "IN", "OUT", "--overwrite"),
    "evidence": _out("read", "out", "IN", "--evidence", "OUT"),
    "page": _out("read", "out.html", "IN", "--report", "OUT"),
    "page over": _out("read", "out.html", "IN", "--report", "OUT", "--overwrite"),
    "submission": _out("read", "out.zip", "IN", "--submission", "OUT"),
    "submission over": _out("read", "out.zip", "IN", "--submission", "OUT", "--overwrite"),
    "rendered": _out("synth", "out", "OUT", "--n", 1),
    "report": _out("evaluate", "out", "--num", 1, "--checkpoint", "IN", "--save-dir", "OUT"),
    "graphs": _out("export", "out", "OUT", "--checkpoint", "IN"),
}


@pytest.mark.parametrize("where", PLACES)
def test_things_that_are_not_files(where, tmp_path, count):
    for name, make in THINGS.items():
        place = tmp_path / name
        place.mkdir()
        path, commands, codes = PLACES[where](place)
        make(path)
        kind, before = os.lstat(path).st_mode, contents(place)
        for words in commands:
            attack(*words, codes=(0, *codes), seconds=20)
        after = contents(place)
        if "over" not in where:  # else a link may be replaced, but not what it leads to
            assert os.lstat(path).st_mode == kind, (where, name)
            assert all(after.get(k) == v for k, v in before.items()), (where, name)
    count("things that are not files", len(THINGS))


def test_a_thousand_folders_in_each_other(tmp_path, count):
    _deep(tmp_path / "deep")
    try:
        crop().save(tmp_path / "deep" / "a.png")
        for words in (["read", tmp_path / "deep"], ["enhance", tmp_path / "deep", tmp_path / "out"]):
            attack(*words, codes=(0, 1))
        (tmp_path / "deep" / "labels.csv").write_text("image_path,plate_text\na.png,ABC1234\n")
        attack("data", "check", tmp_path / "deep", codes=(0, 1))
        attack("runs", tmp_path / "deep", codes=(0,))
    finally:
        os.system(f"rm -rf {tmp_path / 'deep'}")  # shutil's recursion ends before
    count("things that are not files", 4)


# Pictures


def test_pictures_damaged_and_odd(tmp_path, count):
    (tmp_path / "in").mkdir()
    crop().save(tmp_path / "in" / "good.png")
    bad, total = 0, 0
    for i, (suffix, content) in enumerate(pictures(60 * MORE, 4)):
        path = tmp_path / "in" / f"{i:04}{suffix}"
        path.write_bytes(content)
        total += suffix != ".eps"
        with watched() as said:
            try:
                found = read_image(path)
                assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
            except UserError as e:
                assert printable(str(e)) and "\n" not in str(e) and len(str(e)) < 500, e
                bad += suffix != ".eps"
        assert not said.getvalue(), (i, suffix, said.getvalue())
    before = contents(tmp_path / "in")
    found = attack("enhance", tmp_path / "in", tmp_path / "out", codes=(1,), seconds=60 * MORE)
    assert found.err.count("skipped: ") == found.err.count("\n") == bad
    assert len(os.listdir(tmp_path / "out")) == total + 1 - bad
    found = attack("read", tmp_path / "in", codes=(1,), seconds=60 * MORE)
    assert found.out.count("\n") == total + 1 - bad
    assert contents(tmp_path / "in") == before
    count("pictures", i)


# Tables, notes and settings


def test_cells_of_tables(good, count):
    before = contents(good)
    for i, content in enumerate(tables("a.png"), 1):  # noqa: B007
        (good / "labels.csv").write_bytes(content)
        found = attack("data", "check", good, codes=(0, 1))
        assert ("no fault" == found.out.splitlines()[-1]) == (found.code == 0), (content, found)
        assert found.out.splitlines().count("no fault") == (found.code == 0), (content, found)
    (good / "labels.csv").write_text("image_path,plate_text\na.png,ABC1234\n")
    assert contents(good) == before
    count("tables", i)


def test_labelme_files(good, count):
    (good / "labels.csv").write_text("image_path,plate_text\na.png,ABC1234\n")
    for i, content in enumerate(labelme_files(), 1):  # noqa: B007
        (good / "a.json").write_text(content)
        attack("data", "check", good, codes=(0, 1))
        attack("read", good / "a.png", codes=(0, 2))
    count("labelme files", i)


def test_corners_far_outside_are_refused(good, count):
    (good / "a.json").write_text(json.dumps({"shapes": [{"points": [[500, 1], [570, 1], [570, 25], [500, 25]]}]}))
    for words in ([], ["--no-rectify"]):
        attack("read", good / "a.png", *words, codes=(2,))
        attack("enhance", good / "a.png", good.parent / "out", *words, codes=(2,))
    (good / "a.json").unlink()
    (good / "labels.csv").write_text('image_path,plate_text,corners\na.png,ABC1234,"1,-500 60,-500 60,-475 1,-475"\n')
    attack("read", good / "a.png", codes=(2,))
    assert not (good.parent / "out").exists()
    count("corners", 5)


def test_settings(good, count):
    for text in SETTINGS:
        (good / "a.yaml").write_text(text)
        before = contents(good.parent)
        attack("synth", good.parent / "plates", "--layouts", good / "a.yaml")
        assert contents(good.parent) == before and not (good.parent / "plates").exists()
    count("settings", len(SETTINGS))


LATE = ["--stage", 2, "--no-tensorboard", *TINY]  # there is no stage 1: refused whatever the settings are


@pytest.mark.parametrize("part", range(4))
def test_settings_of_a_training(part, good, count):
    some = SETTINGS[part::4]
    for text in some:
        (good / "a.yaml").write_text(text)
        before = contents(good.parent)
        attack("train", "--config", good / "a.yaml", "--save-dir", good.parent / "run", *LATE)
        assert contents(good.parent) == before and not (good.parent / "run").exists(), text
    count("settings", len(some))


@pytest.mark.parametrize("part", range(2))
def test_notes_of_weights(part, tmp_path, count):
    note = read_note(SMALL.with_name("config.json"))
    crop().save(tmp_path / "a.png")
    some = list(notes())[part::2]
    for _, change in some:
        spoilt = json.loads(json.dumps(note))
        change(spoilt)
        try:
            path = with_note(SMALL, tmp_path / "a.safetensors", spoilt)
        except ValueError:
            continue
        attack("read", tmp_path / "a.png", "--checkpoint", path, codes=(0, 2), seconds=20)
    count("notes of weights", len(some))


def test_records_of_runs(tmp_path, count):
    run = tmp_path / "run"
    (run / "stage0").mkdir(parents=True)
    (run / "config.yaml").touch()
    values = [None, 1, "x", [], {}, "\x1b[2J", [None], [1], float("nan"), 10**300]
    done = 6 * len(values)
    for i, (a, b, c) in enumerate(itertools.product(values, repeat=3)):
        if random.Random(i).random() < 0.1 * MORE:
            (run / "run.json").write_text(json.dumps([{"pid": a, "started": b, "outcome": c}]))
            attack("runs", tmp_path, codes=(0,))
            done += 1
    for value in values:
        (run / "run.json").write_text(json.dumps(value))
        attack("runs", tmp_path, codes=(0,))
        (tmp_path / "results").mkdir(exist_ok=True)
        for content in (
            value,
            {"variant": value, "seed": 1, "read": {}},
            {"variant": "full", "seed": value, "read": {}},
            {"variant": "full", "seed": 1, "read": value},
            {"variant": "full", "seed": 1, "read": {"rendered/medium/judge": value}},
        ):
            (tmp_path / "results" / "a.json").write_text(json.dumps(content))
            attack("ablate", "--table", "--results", tmp_path / "results", codes=(0, 2))
    shutil.rmtree(tmp_path / "results")
    count("records", done)


# Permissions


@pytest.fixture
def closed(good):
    "Files and a folder that may not be opened, and one that may not be written to, for whoever is not root"
    if not hasattr(os, "setresuid") or os.geteuid():
        pytest.skip("root alone can become somebody else for the time of a command")
    place = Path(tempfile.mkdtemp())  # pytest's own are closed to others
    shutil.copytree(good, place / "in")
    for name in ("a.yaml", "a.safetensors", "in/b.png"):
        (place / name).write_bytes(encoded("PNG"))
        (place / name).chmod(0)
    (place / "closed").mkdir(0)
    (place / "full").mkdir(0o755)
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_what_may_not_be_opened_is_named_in_one_line(closed, count):
    before, nobody = contents(closed), 65534
    commands = (
        (["read", closed / "in" / "b.png"], (2,)),
        (["read", closed / "in"], (1,)),
        (["data", "check", closed / "in"], (1,)),
        (["read", closed / "closed"], (2,)),
        (["data", "check", closed / "closed"], (2,)),
        (["runs", closed / "closed"], (0, 2)),
        (["read", closed / "in" / "a.png", "--checkpoint", closed / "a.safetensors"], (2,)),
        (["synth", closed / "full" / "x", "--n", 1], (2,)),
        (["synth", closed / "x", "--layouts", closed / "a.yaml"], (2,)),
        (["enhance", closed / "in", closed / "full"], (2,)),
        (["read", closed / "in", "--evidence", closed / "full" / "x"], (2,)),
        (["read", closed / "in", "--submission", closed / "full" / "x.zip"], (2,)),
        (["evaluate", "--checkpoint", "small", "--save-dir", closed / "full" / "x"], (2,)),
        (["export", closed / "full"], (2,)),
        (["train", "--save-dir", closed / "full", *LATE], (2,)),
        (["train", "--config", closed / "a.yaml", "--save-dir", closed / "x", *LATE], (2,)),
    )
    attack("read", closed / "in" / "a.png", codes=(0,))  # all modules are there
    for words, codes in commands:
        os.setresuid(nobody, nobody, 0)
        try:
            found = attack(*words, codes=codes)
        finally:
            os.setresuid(0, 0, 0)
        assert found.code != 2 or str(closed) in found.err, found
    assert contents(closed) == before
    count("permissions", len(commands))


# Memory

ROOM = """
import re, sys
from lp_asrn.config import UserError
from lp_asrn.plates.pictures import read_image

def peak(field):
    return int(re.search(field + ":[ ]*([0-9]+) kB", open("/proc/self/status").read().replace(chr(9), " "))[1]) / 1024

read_image(sys.argv[1])
for path in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = peak("VmRSS")
    try:
        what = "{1} x {0}".format(*read_image(path).shape)
    except UserError as e:
        what = "refused"
    print(path.rpartition("/")[2], what, round(peak("VmHWM") - before), sep=chr(9))
"""


def bomb_files(folder):
    "Whole pictures just within and beyond what is opened, and headers of far larger ones"
    for i, (width, height) in enumerate(((100_000, 100_000), (2**31 - 1, 2**31 - 1), (30_000, 30_000))):
        for suffix, content in bombs(width, height).items():
            yield folder / f"header{i}{suffix}", content
    sides = {"RGB": 5080, "L": 5080, "RGBA": 3130, "CMYK": 3130, "I;16": 3130}  # of the largest squares that are opened
    forms = "PNG JPEG TIFF WEBP JPEG2000".split() if MORE == 1 else "PNG JPEG TIFF WEBP GIF BMP PPM JPEG2000".split()
    for mode, side in sides.items():
        picture = Image.new(mode, (side, side))
        for form in forms:
            how = {"PNG": {"compress_level": 1}, "JPEG": {"progressive": True}, "TIFF": {"compression": "tiff_lzw"}}
            try:
                picture.save(buffer := io.BytesIO(), form, **how.get(form, {}))
            except (OSError, ValueError, KeyError):  # a form that has no such mode
                continue
            if buffer.tell() < 64 << 20:
                yield folder / f"{mode.replace(';', '')}.{form}", buffer.getvalue()


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks are measured as Linux tells them")
def test_a_picture_takes_at_most_300_mib(tmp_path, count):
    crop().save(good := tmp_path / "good.png")
    files = list(bomb_files(tmp_path))
    for path, content in files:
        path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", ROOM, good, *(p for p, _ in files)], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(what == "refused" for name, what, _ in found if name.startswith("header"))
    assert {"5080 x 5080", "3130 x 3130"} <= {what for _, what, _ in found}, "large ones are read"
    over = [line for line in found if int(line[2]) > 300]
    assert not over, over
    count("bombs", len(files))
