"lp_asrn crop: what is cut, what is written about it, and what is refused"

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import refused, run

from lp_asrn.plates.body import Scene
from lp_asrn.plates.corners import format_corners, parse_corners, plate_size
from lp_asrn.plates.layouts import get_layout
from lp_asrn.plates.pictures import read_image, write_image
from lp_asrn.plates.scene import draw_clip, draw_photograph, write_clip

FRAMES = 12


@dataclass
class Filmed:
    "A photograph and a clip, in a folder of their own"

    folder: Path
    photo: Scene
    clip: list[Scene]


@pytest.fixture(scope="module")
def drawn() -> tuple[Scene, list[Scene]]:
    "A photograph, and a clip"
    layout = get_layout("mercosur-br")
    photo = draw_photograph("XYZ9W87", layout, np.random.default_rng(21), "clean", (45, 60))
    return photo, list(draw_clip("ABC1D23", layout, np.random.default_rng(4), FRAMES, "clean", (38, 42)))


@pytest.fixture
def filmed(drawn, tmp_path) -> Filmed:
    photo, clip = drawn
    write_image(tmp_path / "photo.png", photo.picture)
    write_clip(tmp_path / "clip.avi", (s.picture for s in clip))
    return Filmed(tmp_path, photo, clip)


def table(out: Path) -> list[dict]:
    "The rows of a record"
    with open(out / "labels.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def off(text: str, truth) -> float:
    "Mean distance in pixels of written corners from true ones"
    return float(np.hypot(*(np.float32(parse_corners(text)) - np.float32(truth)).T).mean())


def box_of(corners) -> str:
    "The box around a plate, as it is typed"
    low, high = corners.min(0) - 3, corners.max(0) + 3
    return ",".join(f"{v:.0f}" for v in (*low, *(high - low)))


def test_a_photograph_gives_a_crop_of_its_own_size_that_is_read_by_its_corners(filmed):
    out, words = filmed.folder / "out", format_corners(filmed.photo.corners)
    done = run("crop", filmed.folder / "photo.png", out, "--corners", *words.split())
    assert done.code == 0 and "1 crop written" in done.out and not done.err, done.err
    (row,), crop = table(out), read_image(out / "photo.png")
    assert row["source"].endswith("photo.png") and row["frame"] == row["residual"] == row["track"] == ""
    assert off(row["source_corners"], filmed.photo.corners) < 1.5
    inside, there = plate_size(parse_corners(row["corners"])), plate_size(parse_corners(row["source_corners"]))
    assert all(abs(a - b) < 0.51 for a, b in zip(inside, there)), "never enlarged"
    assert crop.shape[0] < 1.6 * inside[0] and crop.shape[1] < inside[1] + 0.6 * inside[0]
    (reading,) = json.loads(run("read", out, "--json").out)
    assert reading["text"] == "XYZ9W87" and reading["doubt"] == 0
    assert np.allclose(reading["corners"][0], parse_corners(row["corners"]), atol=0.02)


def test_corners_are_put_right_unless_they_are_said_to_be_exact(filmed):
    wrong = filmed.photo.corners + np.float32([[2, -1.5], [-2, 1], [2, 2], [-1, -2]])
    for more, most in (([], 1.0), (["--exact"], None)):
        out = filmed.folder / f"out{len(more)}"
        assert run("crop", filmed.folder / "photo.png", out, "--corners", format_corners(wrong), *more).code == 0
        (row,) = table(out)
        if most:
            assert off(row["source_corners"], filmed.photo.corners) < most
        else:
            assert off(row["source_corners"], wrong) < 0.01


def test_a_box_is_looked_into_and_kept_as_it_is_where_there_is_no_plate(filmed):
    assert (
        run("crop", filmed.folder / "photo.png", filmed.folder / "a", "--box", box_of(filmed.photo.corners)).code == 0
    )
    (row,) = table(filmed.folder / "a")
    assert off(row["source_corners"], filmed.photo.corners) < 2 and row["corners"]
    write_image(filmed.folder / "grey.png", np.full((100, 200, 3), 90, np.uint8))
    done = run("crop", filmed.folder / "grey.png", filmed.folder / "b", "--box", "40,30,60,20", "--margin", "0")
    (row,) = table(filmed.folder / "b")
    assert done.code == 0 and "unsure" in done.err and "cut as it is" in done.err and row["corners"] == ""
    assert read_image(filmed.folder / "b" / "grey.png").shape == (20, 60, 3)
    assert parse_corners(row["source_corners"]) == ((40, 30), (100, 30), (100, 50), (40, 50))


def test_marks_beside_a_picture_and_in_folders_are_used(filmed):
    folder = filmed.folder / "in"
    for name in ("a.png", "deep/er/a.png", "unknown.png"):
        write_image(folder / name, filmed.photo.picture)
    note = dict(shapes=[dict(points=filmed.photo.corners.tolist())], imageWidth=640, imageHeight=360)
    for name in ("a.json", "deep/er/a.json"):
        (folder / name).write_text(json.dumps(note))
    done = run("crop", folder, filmed.folder / "out")
    assert done.code == 1 and "unknown.png" in done.err and "--corners" in done.err
    rows = {r["image_path"]: r for r in table(filmed.folder / "out")}
    assert set(rows) == {"a.png", "deep_er_a.png"}
    assert all(off(r["source_corners"], filmed.photo.corners) < 1.5 for r in rows.values())
    readings = json.loads(run("read", filmed.folder / "out", "--json").out)
    assert [r["doubt"] for r in readings] == [0, 0], "the record has the corners of each"


def test_a_table_speaks_of_several_plates_and_files(filmed):
    known, quad = filmed.folder / "places.csv", format_corners(filmed.photo.corners)
    lines = [
        f'photo.png,"{quad}",,',
        f'photo.png,,"{box_of(filmed.photo.corners)}",',
        f'clip.avi,"{format_corners(filmed.clip[5].corners)}",,5',
        'other.png,,"1,2,30,12",',
    ]
    known.write_text("\n".join(["file,corners,box,frame", *lines]))
    files = filmed.folder / "photo.png", filmed.folder / "clip.avi"
    done = run("crop", *files, filmed.folder / "out", "--table", known)
    assert done.code == 0, done.err
    names = [r["image_path"] for r in table(filmed.folder / "out")]
    assert names == ["photo.png", "photo-2.png", *(f"clip/{k:06d}.png" for k in range(FRAMES))]
    assert all((filmed.folder / "out" / name).is_file() for name in names)


def test_a_video_gives_a_track_that_is_read_as_one(filmed):
    out, at = filmed.folder / "out", format_corners(filmed.clip[4].corners)
    done = run("crop", filmed.folder / "clip.avi", out, "--corners", at, "--frame", 4, "--exact")
    assert done.code == 0 and "frames of clip" in done.out and not done.err, done.err
    rows = table(out)
    assert [int(r["frame"]) for r in rows] == list(range(FRAMES)) and {r["track"] for r in rows} == {"clip"}
    assert np.median([off(r["source_corners"], s.corners) for r, s in zip(rows, filmed.clip)]) < 0.5
    assert all(0 <= float(r["residual"]) < 0.2 for r in rows) and float(rows[4]["residual"]) == 0
    (track,) = json.loads(run("read", out, "--track", "--json").out)
    assert (track["text"], track["frames"], track["doubt"]) == ("ABC1D23", FRAMES, 0)
    assert len(json.loads(run("read", out, "--json").out)) == FRAMES
    again = run("crop", filmed.folder / "clip.avi", out, "--corners", at, "--frame", 4, "--frames", 2)
    refused(again, "--overwrite")
    done = run("crop", filmed.folder / "clip.avi", out, "--corners", at, "--frame", 4, "--frames", 2, "--overwrite")
    assert done.code == 0 and [int(r["frame"]) for r in table(out)] == [2, 3, 4, 5, 6]
    assert len(list((out / "clip").iterdir())) == 5, "frames of the earlier call would be read with these"


def test_a_plate_that_is_lost_and_a_video_that_is_cut_off_are_said(filmed):
    shots = [s.picture for s in filmed.clip]
    shots[8:] = [np.full_like(s, 90) for s in shots[8:]]
    write_clip(filmed.folder / "gone.avi", shots)
    at = format_corners(filmed.clip[0].corners)
    done = run("crop", filmed.folder / "gone.avi", filmed.folder / "a", "--corners", at)
    assert done.code == 0 and "gone is lost in frame 8: " in done.err and len(table(filmed.folder / "a")) == 8
    content = (filmed.folder / "clip.avi").read_bytes()
    (filmed.folder / "half.avi").write_bytes(content[: len(content) // 2])
    done = run("crop", filmed.folder / "half.avi", filmed.folder / "b", "--corners", at)
    assert done.code == 0 and f"of its {FRAMES} frames" in done.err
    assert 2 < len(table(filmed.folder / "b")) < FRAMES - 2


def test_a_detector_of_the_users_is_asked(filmed):
    onnx = pytest.importorskip("onnx", reason="onnx comes with the extra [dev]")
    x, y, w, h = map(float, box_of(filmed.photo.corners).split(","))
    rows = np.zeros((1, 20, 6), np.float32)  # of 640x360 in 640x640: bars of 140 pixels above and below
    rows[0, :2] = [[x, y + 140, x + w, y + h + 140, 0.9, 0], [200, 150, 260, 170, 0.6, 0]]
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node("Constant", [], ["out"], value=make.make_tensor("v", kind, rows.shape, rows.ravel().tolist()))
    ends = ([make.make_tensor_value_info(n, kind, s)] for n, s in (("images", [1, 3, 640, 640]), ("out", rows.shape)))
    graph = make.make_graph([node], "g", *ends)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    (filmed.folder / "d.onnx").write_bytes(model.SerializeToString())
    done = run("crop", filmed.folder / "photo.png", filmed.folder / "out", "--detector", filmed.folder / "d.onnx")
    rows = table(filmed.folder / "out")
    assert done.code == 0 and [r["image_path"] for r in rows] == ["photo.png", "photo-2.png"], done.err
    assert off(rows[0]["source_corners"], filmed.photo.corners) < 2
    shutil.copy(filmed.folder / "photo.png", filmed.folder / "photo-2.png")
    names = [filmed.folder / name for name in ("photo.png", "photo-2.png")]
    done = run("crop", *names, filmed.folder / "out", "--detector", filmed.folder / "d.onnx", "--overwrite")
    assert done.code == 1 and "another plate was already written to photo-2.png" in done.err
    assert [r["image_path"] for r in table(filmed.folder / "out")] == ["photo.png", "photo-2.png", "photo-2-2.png"]
    done = run("crop", filmed.folder / "photo.png", filmed.folder / "out", "--detector", filmed.folder / "d.onnx")
    assert done.code == 2 and "--overwrite" in done.err, "names that are known when it is asked"
    refused(run("crop", filmed.folder / "photo.png", filmed.folder / "o", "--detector", filmed.folder / "photo.png"))


def test_what_cannot_be_done_is_one_line_and_writes_nothing(filmed, tmp_path):
    photo, clip, quad = tmp_path / "photo.png", tmp_path / "clip.avi", format_corners(filmed.photo.corners)
    (tmp_path / "noise.avi").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "text.mp4").write_text("#EXTM3U\nclip.avi\n")
    (tmp_path / "none.csv").write_text("file,corners\n")
    (tmp_path / "else.csv").write_text('file,box\nelse.png,"1,2,30,12"\n')
    (tmp_path / "bad.csv").write_text('file,box\nphoto.png,"1,2,30"\n')
    shutil.copy(photo, tmp_path / "copy.png")
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        ([photo], "give pictures"),
        ([photo, "out"], "--corners, --box, --table or --detector"),
        ([photo, "out.png", "--corners", quad], "must be a folder"),
        ([photo, tmp_path / "copy.png", "--corners", quad], "must be a folder"),
        ([photo, tmp_path, "--corners", quad], "overwrite its own input"),
        ([photo, "out", "--corners", "1,2", "3,4"], "--corners: there are not four"),
        ([photo, "out", "--corners", "1,2 3,4 5,6 x,y"], "--corners: there are not four"),
        ([photo, "out", "--corners", "0,0 9,9 9,0 0,9"], "--corners: the corners cross"),
        ([photo, "out", "--corners", "900,10 950,10 950,30 900,30"], "outside the picture"),
        ([photo, "out", "--box", "1,2,3"], "--box: a box is"),
        ([photo, "out", "--box", "900,10,40,20"], "outside the picture"),
        ([photo, "out", "--box", "1,2,30,12", "--corners", quad], "exclude each other"),
        ([photo, clip, "out", "--corners", quad], "--table"),
        ([photo, "out", "--table", tmp_path / "nowhere.csv"], "no such file"),
        ([photo, "out", "--table", tmp_path / "none.csv"], "names no plate"),
        ([photo, "out", "--table", tmp_path / "else.csv"], "has no row for it"),
        ([photo, "out", "--table", tmp_path / "bad.csv"], "line 2"),
        ([photo, "out", "--detector", tmp_path / "nowhere.onnx"], "no such file"),
        ([clip, "out", "--corners", quad, "--frame", FRAMES], f"has no frame {FRAMES}"),
        ([clip, "out", "--box", "10,300,60,20"], "give --corners"),
        ([tmp_path / "noise.avi", "out", "--corners", quad], "not a video"),
        ([tmp_path / "text.mp4", "out", "--corners", quad], "not a video"),
        ([tmp_path / "nowhere.avi", "out", "--corners", quad], "no such file"),
        ([tmp_path / "nowhere.png", "out", "--corners", quad], "no such file"),
        ([photo, "out", "--corners", quad, "--margin", "-1"], "--margin"),
        ([photo, "out", "--corners", quad, "--checkpoint", "nowhere"], "no such checkpoint"),
    ):
        words = [tmp_path / w if w in ("out", "out.png") else w for w in words]
        refused(run("crop", *words), said)
        assert sorted(tmp_path.rglob("*")) == before, words


def test_names_from_outside_do_no_harm(filmed):
    name = 'a,b\x1b[31m;"x".png'
    write_image(filmed.folder / "in" / name, filmed.photo.picture)
    done = run(
        "crop", filmed.folder / "in" / name, filmed.folder / "out", "--corners", format_corners(filmed.photo.corners)
    )
    (row,) = table(filmed.folder / "out")
    assert done.code == 0 and "\x1b" not in done.out + done.err + row["image_path"]
    assert cv2.imread(str(filmed.folder / "out" / row["image_path"])) is not None, "the table names the file"


def test_what_cannot_be_cut_is_said_and_the_rest_goes_on(filmed):
    "A bad place among good ones, of a picture and of a video; a row of a file that is not given"
    at, far = format_corners(filmed.photo.corners), "9000,10 9050,10 9050,30 9000,30"
    shot = format_corners(filmed.clip[0].corners)
    rows = [("photo.png", far), ("photo.png", at), ("gone.png", at)]
    rows += [("clip.avi", far), ("clip.avi", shot)]
    (filmed.folder / "marked.csv").write_text("file,corners\n" + "".join(f'{f},"{c}"\n' for f, c in rows))
    given = [filmed.folder / f for f in ("photo.png", "clip.avi")]
    words = ["--table", filmed.folder / "marked.csv", "--exact"]
    done = run("crop", *given, filmed.folder / "out", *words, "--frames", 1)
    assert (
        done.code == 1 and done.err.count("outside the picture") == 2 and "not among those given: gone.png" in done.err
    )
    assert [r["image_path"] for r in table(filmed.folder / "out")] == [
        "photo-2.png",
        "clip-2/000000.png",
        "clip-2/000001.png",
    ]


def test_two_files_of_one_name_are_refused(filmed, tmp_path):
    "Before anything is cut: one would be written over the other"
    at = format_corners(filmed.photo.corners)
    for suffix in (".png", ".jpg"):
        shutil.copy(filmed.folder / "photo.png", tmp_path / f"a{suffix}")
        shutil.copy(filmed.folder / "clip.avi", tmp_path / f"{suffix[1:]}.avi")
    shutil.copytree(tmp_path, tmp_path / "in" / "other")
    for files in (("a.png", "a.jpg"), ("png.avi", "in/other/png.avi")):
        for more in ((), ("--overwrite",)):
            rows = "".join(f'{tmp_path / f},"{at}"\n' for f in files)
            (tmp_path / "marked.csv").write_text(f"file,corners\n{rows}")
            words = [*(tmp_path / f for f in files), tmp_path / "out", "--table", tmp_path / "marked.csv"]
            refused(run("crop", *words, "--exact", *more), "more than one file would be written")
    assert not (tmp_path / "out").exists()
