"lp_asrn read and evaluate: what a program that calls them relies on"

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import pytest
from helpers import Terminal, environment, refused, run

from lp_asrn.tools.cli import main
from lp_asrn.tools.read_command import COLUMNS


@pytest.fixture
def tracks(tmp_path, picture):
    "Two tracks, three frames and one"
    for name in ("track_00001/lr-001.png", "track_00001/lr-002.png", "track_00001/lr-003.png", "track_00002/a.png"):
        picture(f"tracks/{name}")
    picture("tracks/track_00001/hr-001.png", 64, 192)
    return tmp_path / "tracks"


def test_json_and_csv_say_the_same(picture, tmp_path, checkpoint):
    picture("in/small.png"), picture("in/large.jpg", 64, 192)
    as_json, as_csv = (
        run("read", tmp_path / "in", "--checkpoint", checkpoint, way, "--no-rectify") for way in ("--json", "--csv")
    )
    assert as_json.code == as_csv.code == 0, (as_json.err, as_csv.err)
    found, rows = {r["file"]: r for r in json.loads(as_json.out)}, list(csv.DictReader(io.StringIO(as_csv.out)))
    assert set(found) == {"small.png", "large.jpg"} and list(rows[0]) == COLUMNS
    for row in rows:
        r = found[row["file"]]
        assert row["text"] == r["text"] and abs(float(row["confidence"]) - r["confidence"]) < 1e-4
        assert [x.split(":")[0] for x in row["alternatives"].split()] == [t for t, _ in r["alternatives"]] and len(
            r["characters"]
        ) == len(r["text"])
        assert row["lr_text"] == (r["lr_text"] or "") and r["calibrated"] is True
    assert found["small.png"]["super_resolved"] and not found["large.jpg"]["super_resolved"]
    assert all(r["lr_consistency"] is None for r in found.values()), "there is no second look"
    refused(run("read", tmp_path / "in", "--checkpoint", checkpoint, "--json", "--csv"), "--json", "--csv")


def test_a_second_look_can_be_asked_for_or_left_out():
    "By default eight crops get one where they are not read surely; a surer reading is the same with and without"
    words = {"usual": [], "asked": ["--thorough"], "left out": ["--no-thorough"]}
    found = {k: json.loads(run("read", "--example", "--json", *w).out) for k, w in words.items()}
    assert found["usual"] == found["asked"] and {r["looks"] for r in found["left out"]} == {1}
    pairs = list(zip(found["usual"], found["left out"], strict=True))
    assert [a["looks"] > 1 for a, _ in pairs] == [b["confidence"] < 0.97 for _, b in pairs]
    assert {a["looks"] for a, _ in pairs} == {1, 2, 3} and all(a == b for a, b in pairs if a["looks"] == 1)
    asked = json.loads(run("read", "--example", "--json", "--max-error", 0.1).out)
    assert {r["looks"] for r in asked if r["accepted"]} == {2}, "what is promised is promised of both readers"
    refused(run("read", "--example", "--thorough", "--no-thorough"), "--thorough", "--no-thorough")


def test_evaluate_looks_again_if_asked(tmp_path):
    "A row more for plates and for tracks; what it takes for sure is read as at first"
    words = ("--num", 12, "--frames", 3, "--severity", "hard", "--layouts", "brazilian", "--save-dir", tmp_path)
    outcome = run("evaluate", "--checkpoint", "small", *words, "--thorough")
    assert outcome.code == 0, outcome.err
    rows = {(r["input"], r["judge"], r["frames"]) for r in json.loads((tmp_path / "metrics.json").read_text())["rows"]}
    assert {("thorough", "reader", 1), ("thorough", "product", 1), ("thorough", "product", 3)} <= rows
    lines = list(csv.DictReader((tmp_path / "readings.csv").open()))
    for a, b in (("lr_reader_reader", "thorough_reader"), ("lr_reader_product", "thorough_product")):
        kept = [line for line in lines if line[a] and float(line[f"{a}_confidence"]) >= 0.97]
        assert kept and all(line[a] == line[b] for line in kept)


def test_a_broken_picture_among_others_spoils_neither_json_nor_csv(picture, tmp_path, checkpoint):
    picture("in/good.png")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    outcome = run("read", tmp_path / "in", "--checkpoint", checkpoint, "--json")
    assert (
        outcome.code == 1
        and [r["file"] for r in json.loads(outcome.out)] == ["good.png"]
        and "skipped" in outcome.err
        and "bad.png" in outcome.err
    )


def test_a_line_fits_and_a_terminal_gets_a_heading():
    "The usual line has some 100 characters; columns stand under their heading; a pipe gets lines alone"
    assert not run("read", "--example").out.startswith("file")
    with contextlib.redirect_stdout(Terminal()) as out, pytest.raises(SystemExit):
        main(["read", "--example"])
    heading, *lines = out.getvalue().expandtabs().splitlines()
    assert heading.startswith("file ") and len(lines) == 8
    assert heading.index("text") == 16 and all(line[15] == " " != line[16] for line in lines)
    sure = [line for line in lines if float(line[24:29]) > 0.5]
    assert len(sure) >= 4 and max(map(len, sure)) <= 110 and max(map(len, lines)) <= 140
    shown = [
        w for line in lines for w in line.split("; SR-LR")[0].replace(",", " ").replace(";", " ").split() if "0." in w
    ]
    assert shown and all(len(w) == 5 for w in shown), "probabilities with three decimals each"


def test_options_may_follow_what_is_enhanced(picture, tmp_path, checkpoint):
    "One picture, several, a folder: what is named last is written"
    one, two = picture("in/a.png"), picture("in/b.png", 20, 60)
    for inputs in ([one], [one, two], [tmp_path / "in"]):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert run("enhance", *inputs, out, "--checkpoint", checkpoint, "--device", "cpu").code == 0
        assert len(list(out.iterdir())) == len(inputs) + (inputs[0] == tmp_path / "in")
    refused(run("enhance", one, "--checkpoint", checkpoint), "where SR goes")


def test_what_is_written_stays_below_the_folder_that_was_named(picture, tmp_path, quick_reader, monkeypatch):
    "Two folders with the same names, however they are called"
    for name in ("d1/a.jpg", "d2/a.jpg", "d2/car.17.jpg", "d2/car.18.jpg"):
        picture(name)
    before = sorted(p for d in ("d1", "d2") for p in (tmp_path / d).iterdir())
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for i, inputs in enumerate(([tmp_path / "d1", tmp_path / "d2"], ["../d1", "../d2"], ["../d1", tmp_path / "d2"])):
        for verb, out in ((["enhance", *inputs], []), (["read", *inputs], ["--evidence"])):
            where = tmp_path / f"{verb[0]}{i}"
            assert run(*verb, *out, where).code == 0
            made = sorted(str(p.relative_to(where)) for p in where.rglob("*.png"))
            assert made == ["d1/a.png", "d2/a.png", "d2/car.17.png", "d2/car.18.png"]
    assert before == sorted(p for d in ("d1", "d2") for p in (tmp_path / d).iterdir())
    for name in ("car.17", "car.18"):  # no suffix of a picture
        (tmp_path / "d1" / f"{name}.jpg").write_bytes((tmp_path / "d1" / "a.jpg").read_bytes())
        (tmp_path / "d1" / f"{name}.jpg").rename(tmp_path / "d1" / name)
    assert run("enhance", "../d1/car.17", "../d1/car.18", "out").code == 0
    assert sorted(os.listdir("out")) == ["car.17.png", "car.18.png"]


def test_outputs_that_cannot_be_are_refused_before_anything_is_read(picture, tmp_path, monkeypatch):
    "The reader is not even made"
    for verb in ("read", "enhance"):
        monkeypatch.setattr(f"lp_asrn.tools.{verb}_command.Reader", None)
    one, two, folder = picture("in/a.jpg"), picture("in/a.png/b.png"), tmp_path / "in"
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        (["enhance", one, two, tmp_path / "c.png"], "must be a folder"),
        (["enhance", folder, tmp_path / "x.png"], "must be a folder"),
        (["enhance", folder, tmp_path / "x.pdf"], "must be a folder"),
        (["enhance", one, tmp_path / "o.gif"], ".png, "),
        (["enhance", one, tmp_path / "o.PDF"], ".png, "),
        (["enhance", folder, tmp_path / "out"], "both a file and the folder"),
        (["enhance", one, tmp_path / "gone" / "out"], "link that leads nowhere"),
        (["enhance", one, tmp_path / "gone"], "link that leads nowhere"),
        (["synth", tmp_path / "gone", "--n", 1], "link that leads nowhere"),
        (["enhance", "--out", "o", one], "the last word"),
        (["enhance", "--out", "o"], "the last word"),
        (["export", "o", "--output", "o"], "the last word"),
        (["enhance", "", tmp_path / "out"], "is empty"),
        (["enhance", one, ""], "is empty"),
        (["read", ""], "is empty"),
        (["synth", ""], "is empty"),
        (["read", one, "--evidence", ""], "is empty"),
        (["read", one, "--submission="], "is empty"),
        (["read", one, "--evidence", tmp_path / "z.zip", "--submission", tmp_path / "z.zip"], "both a file"),
        (["enhance", "true", tmp_path / "out"], "file or folder: true"),
        (["read", "--json", "true"], "file or folder: true"),
    ):
        refused(run(*words), said)
    picture("tracks/a,b/1.png")
    refused(run("read", "--track", tmp_path / "tracks", "--submission", tmp_path / "z.zip"), "a,b", "rename")
    assert before == sorted(p for p in tmp_path.rglob("*") if "tracks" not in p.parts)


def test_a_folder_may_have_any_name(picture, tmp_path, quick_reader):
    one = picture("in/a.jpg")
    (tmp_path / "there.gif").mkdir()
    for out in (tmp_path / "there.gif", tmp_path / "true", tmp_path / "plates.v2"):
        assert run("enhance", one, out).code == 0 and os.listdir(out) == ["a.png"]


def test_closed_outputs_end_in_a_line(tmp_path):
    for closed, words in ((">&-", "read --example"), (">&- 2>&-", "read --example"), ("2>&-", "read nowhere.png")):
        how = dict(capture_output=True, text=True, cwd=tmp_path, env=environment())
        done = subprocess.run(["sh", "-c", f'"$0" -m lp_asrn {words} {closed}', sys.executable], **how)
        assert done.returncode == 2 and not done.stdout and "Traceback" not in done.stderr, done
        assert done.stderr.count("\n") == ("2" not in closed), done


def test_tracks_are_read_as_one_plate_each(tracks, tmp_path, checkpoint):
    words = ["--json", "--submission", tmp_path / "out.zip", "--no-rectify"]
    outcome = run("read", "--track", tracks, "--checkpoint", checkpoint, *words)
    assert outcome.code == 0, outcome.err
    found = {r["file"]: r for r in json.loads(outcome.out)}
    assert {k: (r["frames"], r["super_resolved"]) for k, r in found.items()} == {
        "track_00001": (3, True),
        "track_00002": (1, True),
    }
    with zipfile.ZipFile(tmp_path / "out.zip") as z:
        lines = z.read("predictions.txt").decode().splitlines()
    assert lines == [f"{k},{r['text']};{r['confidence']:.4f}" for k, r in sorted(found.items())]
    one = run("read", "--track", tracks / "track_00001", "--checkpoint", checkpoint, "--no-rectify")
    assert (
        one.code == 0 and one.out.startswith("track_00001\t" + found["track_00001"]["marked"]) and "3 frames" in one.out
    )
    refused(run("read", "--track", tracks / "track_00002" / "a.png", "--checkpoint", checkpoint), "--track", "folder")
    (tracks / ".ipynb_checkpoints").mkdir()
    shutil.copy(tracks / "track_00002" / "a.png", tracks / ".ipynb_checkpoints")
    assert run("read", "--track", tracks, "--checkpoint", checkpoint).out.count("\n") == 2
    shutil.copy(tracks / "track_00002" / "a.png", tracks)
    refused(run("read", "--track", tracks, "--checkpoint", checkpoint), "--track", "so do folders in it")
    refused(
        run("read", tracks / "track_00002", "--checkpoint", checkpoint, "--submission", tmp_path / "out.txt"), ".zip"
    )
    refused(
        run("read", tracks / "track_00002", "--checkpoint", checkpoint, "--submission", tmp_path / "gone" / "out.zip"),
        "no folder",
        "gone",
    )


def test_a_track_is_drawn_from_its_text_and_from_the_next(tracks, tmp_path, untrained):
    "Of untrained models the next-best text is always likely"
    how, out = ["--checkpoint", untrained, "--device", "cpu"], tmp_path / "out"
    done = run("enhance", "--track", tracks, out, *how)
    *lines, last = done.out.splitlines()
    assert done.code == 0 and last == f"2 written to {out}", done
    for name, line in zip(("track_00001", "track_00002"), lines, strict=True):
        said = re.fullmatch(rf"{name}.png from (\w+) 0.\d+; or ({name}.or-(\w+).png) from (\w+) 0.\d+", line)
        assert said and said[3] == said[4] != said[1], line
        pictures = [cv2.imread(str(out / n)) for n in (f"{name}.png", said[2])]
        assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()
    made = {p.name: p.read_bytes() for p in out.iterdir()}
    assert len(made) == 4
    refused(run("enhance", "--track", tracks, out, *how), "--overwrite")
    for name in ("track_00001", "track_00002"):  # the one beside it is in the way
        (out / f"{name}.png").unlink()
    refused(run("enhance", "--track", tracks, out, *how), ".or-", "--overwrite", "and 1 other")
    assert sorted(os.listdir(out)) == sorted(n for n in made if ".or-" in n)
    (out / "track_00001.or-XYZ9876.png").write_text("of an earlier text")
    assert run("enhance", "--track", tracks, out, *how, "--overwrite").code == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == made
    (tracks / "track_00001" / "lr-004.png").write_text("no picture")
    one = run("enhance", "--track", tracks / "track_00001", tmp_path / "sr.jpg", *how)
    assert one.code == 1 and "lr-004.png" in one.err and one.out.startswith("sr.jpg from "), "drawn from the others"
    assert len(list(tmp_path.glob("sr.or-*.jpg"))) == 1
    refused(run("enhance", "--track", tracks, tmp_path / "sr.png", *how), "must be a folder")
    refused(run("enhance", "--track", tracks / "track_00001", tracks / "track_00002", out, *how), "one folder")


def test_an_error_rate_that_cannot_be_promised_is_refused(picture, checkpoint):
    crop = picture("crop.png")
    refused(run("read", crop, "--checkpoint", checkpoint, "--max-error", "0.0001"), "error rate", "0.0001")
    refused(run("read", crop, "--checkpoint", checkpoint, "--max-error", "2"), "between 0 and 1")
    for count in ("-1", "1000000"):
        refused(run("read", crop, "--checkpoint", checkpoint, "--alternatives", count), "--alternatives")


def test_layouts_are_names_that_the_models_know(picture, checkpoint):
    crop = picture("crop.png")
    outcome = run("read", crop, "--checkpoint", checkpoint, "--layouts", "argentina-old", "argentina-old", "--json")
    assert outcome.code == 0 and [r["layout"] for r in json.loads(outcome.out)] == ["argentina-old"]
    refused(run("read", crop, "--checkpoint", checkpoint, "--layouts", "french"), "french", "brazilian")


def test_the_reader_is_at_hand():
    import lp_asrn

    assert lp_asrn.Reader.__name__ == "Reader" and not hasattr(lp_asrn, "Writer")


def test_evidence_never_overwrites_a_picture(picture, tmp_path, checkpoint):
    crop = picture("in/a.png")
    before = crop.read_bytes()
    refused(run("read", tmp_path / "in", "--checkpoint", checkpoint, "--evidence", tmp_path / "in"), "overwrite")
    picture("in/a.jpg")
    refused(run("read", tmp_path / "in", "--checkpoint", checkpoint, "--evidence", tmp_path / "why"), "suffix")
    assert crop.read_bytes() == before and not (tmp_path / "why").exists()


def test_evidence_is_a_picture_of_each_plate(picture, tmp_path, checkpoint):
    picture("in/a.png")
    outcome = run(
        "read", tmp_path / "in", "--checkpoint", checkpoint, "--alternatives", "0", "--evidence", tmp_path / "why"
    )
    assert outcome.code == 0 and "evidence:" in outcome.out, outcome.err
    drawn = cv2.imread(str(tmp_path / "why" / "a.png"))
    assert drawn is not None and drawn.shape[1] > 400 and drawn.std() > 1
    said = outcome.out.split("evidence: ")[1].splitlines()[0].split("\t")[0]
    shares = [float(x.split()[1]) for x in said.split(", ")]
    assert len(shares) == 3 and abs(sum(shares) - 1) < 0.02


def test_evaluate_writes_a_report_and_the_same_numbers_twice(tmp_path, checkpoint):
    words = (
        "evaluate",
        "--checkpoint",
        checkpoint,
        "--num",
        3,
        "--severity",
        "hard",
        "--frames",
        2,
        "--split",
        "val,test",
    )
    for name in "ab":
        outcome = run(*words, "--save-dir", tmp_path / name)
        assert outcome.code == 0, outcome.err
    for file in ("metrics.json", "readings.csv", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    rows = json.loads((tmp_path / "a" / "metrics.json").read_text())["rows"]
    assert {(r["split"], r["frames"]) for r in rows} == {(s, n) for s in ("val", "test") for n in (1, 2)}
    assert "http" not in (tmp_path / "a" / "report.html").read_text().replace("http://www.w3.org", "")
    refused(run("evaluate", "--checkpoint", checkpoint, "--split", "exam"), "exam", "test")
    refused(run("evaluate", "--checkpoint", checkpoint, "--frames", 0), "--frames")


def test_corners_outside_are_named_with_their_picture(picture, tmp_path):
    for name, corners in (("a", "2,2 46,2 46,14 2,14"), ("b", "500,1 590,1 590,30 500,30")):
        picture(f"{name}.png")
        with open(tmp_path / "labels.csv", "a") as f:
            f.write(("image_path,plate_text,corners\n" if name == "a" else "") + f'{name}.png,ABC1D23,"{corners}"\n')
    found = run("read", tmp_path / "a.png", tmp_path / "b.png")
    assert found.code == 1 and "b.png" in found.err and "outside" in found.err and found.out.startswith("a.png"), found
    assert run("enhance", tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out").code == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]
