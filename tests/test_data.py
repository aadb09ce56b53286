"Data sets of every form, whole and broken, through `lp_asrn data check` and through loading"

import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import COMMAND, environment, refused, run
from omegaconf import OmegaConf
from PIL import Image
from specimens import SPECIMENS, paste

from lp_asrn.config import DATA_DIR, DataError
from lp_asrn.files import KINDS
from lp_asrn.plates.check import read_data, scan
from lp_asrn.plates.corners import resample, whole
from lp_asrn.plates.datasets import PlateDataset
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.folder import summary, write_table
from lp_asrn.plates.pictures import read_image, write_image
from lp_asrn.plates.sources import FilePlates, Plate


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> Path:
    "One specimen of each form"
    root = tmp_path_factory.mktemp("specimens")
    for form, write in SPECIMENS.items():
        (root / form).mkdir()
        write(root / form, np.random.default_rng(5))
    return root


@pytest.fixture
def specimen(originals, tmp_path):
    "A copy to be broken: specimen(form) -> its folder"
    return lambda form: Path(shutil.copytree(originals / form, tmp_path / form))


def check(folder: Path, code: int, *fragments: str) -> str:
    "Assert how `lp_asrn data check` ends, and that its report has the fragments"
    outcome = run("data", "check", folder, "--all")
    assert outcome.code == code and not outcome.err, outcome
    assert not [f for f in fragments if f not in outcome.out], (fragments, outcome.out)
    return outcome.out


def found(folder: Path) -> dict[str, int]:
    "Number of faults of each kind after opening every picture, and of the rows that stand"
    table = scan(folder)
    rows = [row for row in table.rows if table.open(row)]
    return {kind: len(table.faults[kind]) for kind in KINDS if table.faults[kind]} | {"rows": len(rows)}


def load(folder: Path) -> FilePlates:
    "Every plate, as training and evaluation see them"
    return FilePlates(read_data(folder))


def drawn(folder: Path) -> list[Plate]:
    "The plates themselves"
    source = load(folder)
    return [source.draw(i) for i in range(len(source))]


# ---- whole sets


@pytest.mark.parametrize("form", SPECIMENS)
def test_a_whole_set_has_no_fault(form, originals):
    out = check(originals / form, 0, form, "no fault", "train", "pixels wide")
    assert f" {len(scan(originals / form).rows)} plates" in out
    assert ("two-line" in out) == (form == "RodoSol-ALPR") and ("without text" in out) == (form == "LRLPR-26")


@pytest.mark.parametrize("form", SPECIMENS)
def test_a_whole_set_is_loaded(form, originals):
    rows, plates = scan(originals / form).rows, drawn(originals / form)
    wanted = sorted((r.text, r.layout, r.lr is None) for r in rows if r.text)
    assert sorted((p.text, p.layout, p.lr is None) for p in plates) == wanted
    pairs = PlateDataset(load(originals / form), get_severity("medium"))
    shown = [pairs[0, i] for i in range(len(pairs))]
    assert {(p["hr"].shape, p["lr"].shape, p["crop"].shape) for p in shown} == {((32, 96, 3), (16, 48, 3), (32, 96, 3))}
    assert len({p.id for p in plates}) == len(plates)


def test_rows_without_text_are_refused_by_name(specimen):
    folder = specimen("LRLPR-26")
    for path in [*folder.rglob("annotations.json"), *folder.rglob("hr-*")]:
        path.unlink()
    with pytest.raises(DataError, match="no text"):
        load(folder)


def test_the_plate_of_a_photograph_comes_back(specimen):
    folder, rng = specimen("RodoSol-ALPR"), np.random.default_rng(0)
    photo, corners = paste(PLATE, rng)
    note = folder / "images" / "cars-br" / "img_000000.txt"
    write_image(note.with_suffix(".png"), photo)
    note.with_suffix(".jpg").unlink()  # the list still says .jpg
    note.write_text(
        "type: car\nplate: ABC-1234\nlayout: Brazilian\ncorners: " + " ".join(f"{x:.0f},{y:.0f}" for x, y in corners)
    )
    (loaded,) = [p for p in drawn(folder) if p.text == "ABC1234"]

    def alike(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    hr, plate = resample(loaded.picture, loaded.corners), resample(PLATE, whole(PLATE))
    turned = [alike(hr[::y, ::x], plate) for y, x in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    assert turned[0] > 0.9 > 0.6 > max(turned[1:]), turned
    marked = [[round(v) for v in point] for point in corners]
    assert loaded.id == "images/cars-br/img_000000.png" and alike(hr, resample(photo, marked)) > 0.99


def test_scores_and_training_take_a_published_form(originals, checkpoint, tmp_path):
    words = ("--data-root", originals / "RodoSol-ALPR", "--severity", "medium", "--save-dir", tmp_path)
    outcome = run("evaluate", "--checkpoint", checkpoint, *words)
    assert outcome.code == 0 and "4 plates x 1 draws" in outcome.out and "2 skipped" in outcome.out, outcome


@pytest.mark.parametrize("form", SPECIMENS)
def test_a_relative_folder_is_the_same_folder(form, originals, monkeypatch):
    monkeypatch.chdir(originals)

    def rows(root):
        return sorted(str(r) for r in scan(root).rows)

    assert rows(form) == rows(originals / form) == rows(Path(".") / form / ".." / form)
    out = check(Path(form), 0, form, "no fault")
    assert f" {len(scan(form).rows)} plates" in out
    assert len(load(Path(form))) == len(load(originals / form))


# ---- wrong use


def test_wrong_use_is_told_apart_from_faults(tmp_path):
    refused(run("data", "check", tmp_path / "gone"), "no such folder")
    refused(run("data", "check", tmp_path), "none of the known forms", *SPECIMENS)
    refused(run("data", "chekc", tmp_path), "chekc")
    refused(run("data"), "required")
    assert all(word in run("data", "--help").out for word in ("check", "--all", "--layouts"))
    (tmp_path / "file").write_text("")
    refused(run("data", "check", tmp_path / "file"), "not a folder")


def test_long_lists_are_cut_unless_all_is_asked(originals, tmp_path):
    folder = Path(shutil.copytree(originals / "UFPR-SR-Plates", tmp_path / "many"))
    for path in sorted(folder.rglob("hr-*.png"))[:12]:
        path.write_bytes(b"")
    short, whole = run("data", "check", folder), run("data", "check", folder, "--all")
    assert short.code == whole.code == 1 and "unreadable: 12" in short.out and "... and 2 more" in short.out
    assert whole.out.count("not a picture") == 12 and short.out.count("not a picture") == 10


def test_layouts_of_ones_own(picture, tmp_path):
    picture("set/a.png", 32, 96)
    write_table(tmp_path / "set", [dict(image_path="a.png", plate_text="12345", layout="five")])
    check(tmp_path / "set", 1, "layout 'five' is unknown", "no plate")
    own = OmegaConf.load(DATA_DIR / "layouts.yaml").brazilian
    OmegaConf.save({"five": {**own, "mask": "DDDDD"}}, tmp_path / "five.yaml")
    outcome = run("data", "check", tmp_path / "set", "--layouts", tmp_path / "five.yaml")
    assert outcome.code == 0 and " 1 plates" in outcome.out and "five" in outcome.out, outcome


# ---- broken pictures

PLATE = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 12, 3), dtype=np.uint8)).resize((120, 40))
)
EXIF = Image.Exif()
EXIF[0x0112] = 3  # upside down


def encoded(picture, form, **how) -> bytes:
    "A picture file"
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, form, **how)
    return out.getvalue()


GREY3 = np.repeat(PLATE[..., :1], 3, axis=2)
FOUR, OPAQUE = Image.fromarray(GREY3 // 64 * 64).quantize(4), PLATE[..., :1] > 99
JPEG, PNG = encoded(PLATE, "JPEG", quality=95), encoded(PLATE, "PNG")
READ = {  # name: content, the picture that it shows
    "one_pixel.png": (encoded(PLATE[:1, :1], "PNG"), PLATE[:1, :1]),
    "wide.png": (encoded(np.resize(PLATE, (3, 20000, 3)), "PNG"), np.resize(PLATE, (3, 20000, 3))),
    "high.png": (encoded(np.resize(PLATE, (20000, 3, 3)), "PNG"), np.resize(PLATE, (20000, 3, 3))),
    "cmyk.jpg": (
        encoded(Image.fromarray(np.dstack([255 - PLATE, 0 * PLATE[..., 0]]), "CMYK"), "JPEG", quality=100),
        PLATE,
    ),
    "sixteen.png": (encoded(PLATE[..., 0].astype(np.uint16) * 257, "PNG"), GREY3),
    "rgba.png": (
        encoded(np.dstack([PLATE, np.where(OPAQUE, 255, 0).astype(np.uint8)]), "PNG"),
        np.where(OPAQUE, PLATE, 127),
    ),
    "palette.png": (encoded(FOUR, "PNG"), GREY3 // 64 * 64),
    "turned.jpg": (encoded(PLATE, "JPEG", quality=95, exif=EXIF), PLATE[::-1, ::-1]),
    "really_png.jpg": (PNG, PLATE),
    "UPPER.JPEG": (JPEG, PLATE),
    "two_frames.gif": (encoded(FOUR, "GIF", save_all=True, append_images=[Image.fromarray(PLATE)]), GREY3 // 64 * 64),
}
UNREADABLE = {
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "cut.png": PNG[: len(PNG) // 2],
    "header.jpg": JPEG[:40],
    "nothing.png": b"",
    "text.png": b"I am not a picture",
    "bomb.png": encoded(Image.new("1", (12000, 12000)), "PNG"),
    "torn.png": PNG[:60] + b"torn" + PNG[64:],
}


@pytest.fixture
def with_picture(specimen):
    "The generic form with one picture more: with_picture(name, content) -> folder"

    def add(name: str, content: bytes) -> Path:
        folder = specimen("labels.csv")
        (folder / "hr" / name).write_bytes(content)
        with open(folder / "labels.csv", "a") as f:
            f.write(f"hr/{name},XYZ9876,,brazilian,,test\n")
        return folder

    return add


@pytest.mark.parametrize("name", READ)
def test_unusual_pictures_are_read_right(name, with_picture):
    content, shown = READ[name]
    folder = with_picture(name, content)
    assert found(folder) == {"rows": 11}
    difference = np.abs(read_image(folder / "hr" / name).astype(int) - shown)
    assert difference.mean() < 4 if name.upper().endswith(("JPG", "JPEG")) else difference.max() <= 1
    check(folder, 0, "11 plates")
    (plate,) = [p for p in drawn(folder) if p.text == "XYZ9876"]
    shown = shown.astype(np.uint8)
    limit = 15 if name == "wide.png" else 4  # 20,000 pixels are kept as 192, and three rows as one
    assert np.abs(resample(plate.picture, plate.corners).astype(int) - resample(shown, whole(shown))).mean() < limit


@pytest.mark.parametrize("name", UNREADABLE)
def test_broken_pictures_are_named_and_counted(name, with_picture):
    folder = with_picture(name, UNREADABLE[name])
    assert found(folder) == {"rows": 10, "unreadable": 1}
    check(folder, 1, "10 plates", "unreadable: 1", f"hr/{name}: not a picture", "1 fault")
    plates = load(folder)
    assert len(plates) == 10 and [name in line for line in plates.table.faults["unreadable"]] == [True]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_waited_for(with_picture):
    folder = with_picture("pipe.png", b"")
    (folder / "hr" / "pipe.png").unlink()
    os.mkfifo(folder / "hr" / "pipe.png")
    check(folder, 1, "unreadable: 1", "pipe.png is a pipe")
    (folder / "hr" / "pipe.png").unlink()
    (folder / "hr" / "pipe.png").mkdir()
    check(folder, 1, "unreadable: 1", "pipe.png is a folder")


# ---- broken labels

HEADER = "image_path,plate_text,lr_path,layout,track,split"
LINES = {  # one line more in labels.csv, and what becomes of it (and of other rows)
    "hr/0.png,ABC1234,lr/1.jpg,,,train": {"rows": 8, "mislabelled": 3},  # contradicts two rows
    "hr/gone.png,ABC1234,,,,train": {"unmatched": 1},
    ",ABC1234,,,,train": {"unmatched": 1},
    f"{'x' * 300}.png,ABC1234,,,,train": {"unmatched": 1},
    "/,ABC1234,,,,train": {"unmatched": 1},
    "..,ABC1234,,,,train": {"unmatched": 1},
    "hr/1,ABC1234,,,,train": {"rows": 9, "mislabelled": 2},  # no suffix: means hr/1.png, which has another text
    "hr/1.png,ABÇ1234,,,,train": {"mislabelled": 1},
    "hr/1.png,,,,,train": {"mislabelled": 1},
    "hr/1.png,ABC1234,,mercosur-br,,train": {"mislabelled": 1},
    "hr/1.png,ABC1234,,,,exam": {"mislabelled": 1},
    "hr/1.png,ABC1234,,,,train,more": {"mislabelled": 1},
    "hr/1.png,ABC1234,,moped,,train": {"skipped": 1},
    "hr/1.png,ABCD12345,,,,train": {"skipped": 1},
    "hr/1.png": {"mislabelled": 1},
    '"hr/1.png\nhr/2.png",ABC1234,,,,train': {"mislabelled": 1},
}


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_each_line_becomes_a_row_or_a_fault(line, specimen):
    folder = specimen("labels.csv")
    with open(folder / "labels.csv", "a", encoding="utf-8") as f:
        f.write(line + "\n")
    assert found(folder) == {"rows": 10} | LINES[line]
    check(folder, int("skipped" not in LINES[line]), "plates")
    assert len(load(folder)) == LINES[line].get("rows", 10)


def test_repeated_and_contradicting_rows(specimen):
    folder = specimen("labels.csv")
    header, first, second, *_ = (folder / "labels.csv").read_text().splitlines()
    text, other = second.split(",")[1], "ZZZ" + second.split(",")[1][3:]
    with open(folder / "labels.csv", "a") as f:
        f.write(first + "\n" + first + "\n" + second.replace(text, other) + "\n")
    assert found(folder) == {"rows": 9, "repeated": 2, "mislabelled": 2}
    check(folder, 1, "repeated: 2", "mislabelled: 2", text, other, "4 faults")
    assert len(load(folder)) == 9


@pytest.mark.parametrize(
    "content, fragment",
    [
        (b"", "no column 'image_path'"),
        (b"\n\n", "no column 'image_path'"),
        (HEADER.replace(",", "|").encode(), "no column"),
        (HEADER.encode("utf-32"), "no column"),
        (
            HEADER.encode() + b'\n"hr/0.png,ABC1234\nhr/1.png,ABC1235\n',
            "not a CSV file",
        ),  # a quote that is never closed
        (HEADER.encode() + b"\n" + b"x" * 200_000, "not a CSV file"),
    ],
)
def test_a_table_that_is_none_is_named(content, fragment, specimen):
    folder = specimen("labels.csv")
    (folder / "labels.csv").write_bytes(content)
    check(folder, 1, fragment, "labels.csv", "1 fault")
    with pytest.raises(DataError, match=fragment):
        load(folder)


def test_a_table_without_rows_is_a_fault(specimen):
    folder = specimen("labels.csv")
    (folder / "labels.csv").write_text(HEADER + "\n")
    check(folder, 1, " 0 plates", "1 fault")
    with pytest.raises(DataError, match="no plate can be used"):
        load(folder)


def test_a_byte_order_mark_and_windows_lines_change_nothing(specimen):
    for form, name in (("labels.csv", "labels.csv"), ("RodoSol-ALPR", "split.txt"), ("UFPR-SR-Plates", "tracks.txt")):
        folder = specimen(form)
        before = found(folder)
        (folder / name).write_bytes(
            b"\xef\xbb\xbf" + (folder / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        )
        assert found(folder) == before, form


def test_leaks_are_reported_and_refused(specimen):
    folder = specimen("labels.csv")
    lines = (folder / "labels.csv").read_text().splitlines()
    (_, text, *_), (image, *_) = (line.split(",") for line in lines[1:3])
    (folder / "labels.csv").write_text("\n".join([*lines[:2], f"{image},{text},,,,test"]))
    check(folder, 1, "leaks: 1", f"plate text '{text}' stands in 2 splits (train, test)")
    with pytest.raises(DataError, match=text):
        load(folder)


# ---- broken notes of the published sets

NOTES = [  # content of img_000000.txt, kind of fault
    ("", "mislabelled"),
    ("plate: {text}\nlayout: Brazilian\n", "mislabelled"),
    ("plate: {text}\nlayout: Brazilian\ncorners: 1,1 9,1 9,5", "mislabelled"),
    ("plate: {text}\nlayout: Brazilian\ncorners: 10,10 90,10 10,50 90,50", "mislabelled"),  # crossing
    ("plate: {text}\nlayout: Brazilian\ncorners: 90,10 10,10 10,50 90,50", "mislabelled"),  # mirrored
    ("plate: {text}\nlayout: Brazilian\ncorners: 90,50 10,50 10,10 90,10", "mislabelled"),  # upside down
    ("plate: {text}\nlayout: Brazilian\ncorners: 900,10 990,10 990,50 900,50", "mislabelled"),  # outside
    ("plate: {text}\nlayout: Brazilian\ncorners: nan,10 90,10 90,50 10,50", "mislabelled"),
    ("plate: {text}\nlayout: Brazilian\ncorners: a,b c,d e,f g,h", "mislabelled"),
    ("plate: {text}\nlayout: Brazilian\ncorners: 10,10 10,10 10,10 10,10", "mislabelled"),
    ("plate: {text}\nlayout: Mercosur\ncorners: 10,10 90,10 90,50 10,50", "mislabelled"),
    ("plate: {text}\nlayout: Klingon\ncorners: 10,10 90,10 90,50 10,50", "skipped"),
    ("type: motorcycle\nplate: {text}\nlayout: Brazilian\ncorners: 10,10 90,10 90,50 10,50", "skipped"),
    (
        "city: S\xe3o Paulo\nplate: {text}\nlayout: Brazilian\ncorners: 10,10 90,10 90,50 10,50",
        "mislabelled",
    ),  # latin-1
    ("plate: {text}\nlayout: brazilian\ncorners: -3,-2 90,10 90,50 10,50", None),  # a little outside: legal
]


@pytest.mark.parametrize("content, kind", NOTES, ids=range(len(NOTES)))
def test_broken_notes_cost_their_own_row_alone(content, kind, specimen):
    folder = specimen("RodoSol-ALPR")
    note = folder / "images" / "cars-br" / "img_000000.txt"
    text = note.read_text().split("plate: ")[1].split("\n")[0]
    note.write_bytes(content.replace("{text}", text).encode("latin-1"))
    expected = {"rows": 9, "skipped": 2} | ({kind: 1 + 2 * (kind == "skipped")} if kind else {"rows": 10})
    assert found(folder) == expected
    check(folder, int(kind == "mislabelled"), "img_000000" if kind else "plates")
    assert len(load(folder)) == expected["rows"]


@pytest.mark.parametrize(
    "content, fragment",
    [
        (b"", " 0 plates"),
        ("images/cars-br/S\xe3o.jpg;training\n".encode("latin-1"), "split.txt is not UTF-8"),
        (b"a;b;c;d\n/;training\n..;training\n", "split.txt, line 3"),
    ],
)
def test_broken_lists_are_named(content, fragment, specimen):
    folder = specimen("RodoSol-ALPR")
    (folder / "split.txt").write_bytes(content)
    check(folder, 1, fragment)
    with pytest.raises(DataError):
        load(folder)


JSON = [
    *(b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"),
    b'{"shapes": [], "plate_text": 5}',
    b'{"shapes": [{"points": [[1, 2]]}], "plate_text": "ABC1234", "corners": 7}',
]


@pytest.mark.parametrize("content", JSON, ids=range(len(JSON)))
@pytest.mark.parametrize(
    "form, name, lost", [("UFPR-SR-Plates", "hr-002.json", 1), ("LRLPR-26", "annotations.json", 5)]
)
def test_broken_json_costs_its_own_frames_alone(form, name, lost, content, specimen):
    folder = specimen(form)
    before, path = found(folder), sorted(folder.rglob(name))[0]
    path.write_bytes(content)
    after = found(folder)
    faults = sum(number for kind, number in after.items() if kind != "rows")
    assert after["rows"] == before["rows"] - lost and faults in (1, lost), after
    check(folder, 1, "fault", path.parent.name)


@pytest.mark.parametrize("form", ["UFPR-SR-Plates", "LRLPR-26"])
def test_frames_of_a_track_stay_together(form, originals):
    splits = {}
    for row in scan(originals / form).rows:
        splits.setdefault(row.track, []).append((row.split, row.text))
    assert all(len(frames) == 5 and len(set(frames)) == 1 for frames in splits.values())


@pytest.mark.parametrize("form", ["UFPR-SR-Plates", "LRLPR-26"])
def test_a_frame_that_is_wholly_gone_is_missed(form, specimen):
    folder = specimen(form)
    before, track = found(folder)["rows"], scan(folder).rows[0].lr.parent
    for path in track.glob("[lh]r-003.*"):
        path.unlink()
    assert found(folder) == {"rows": before - 1, "unmatched": 1}
    check(folder, 1, f"{track.name}, frame 003", "1 fault")


def test_what_no_list_names_is_named(specimen):
    folder = specimen("UFPR-SR-Plates")
    shutil.copytree(folder / "tracks" / "track_00000", folder / "tracks" / "track_77777")
    check(folder, 1, "tracks/track_77777: a track that the list does not name", "1 fault")
    folder = specimen("RodoSol-ALPR")
    shutil.copy(folder / "images" / "cars-br" / "img_000000.txt", folder / "images" / "cars-br" / "img_777777.txt")
    check(folder, 1, "img_777777.txt: a label without a picture", "1 fault")


@pytest.mark.parametrize("form", SPECIMENS)
def test_a_picture_in_a_folder_that_nobody_names_is_named(form, specimen):
    folder = specimen(form)
    write_image(folder / "elsewhere" / "z.png", PLATE)
    write_image(folder / "top.png", PLATE)
    check(folder, 1, "elsewhere/z.png: a picture without a label", "top.png: a picture without a label", "2 faults")


def test_folders_that_are_misnamed_are_not_passed_over(specimen):
    folder = specimen("LRLPR-26")
    track = sorted(folder.rglob("annotations.json"))[0].parent
    track.rename(track.with_name("Track-00000"))
    check(folder, 1, "Track-00000/lr-001", "unmatched: 10")


def test_ufpr_labels_contradict_each_other(specimen):
    folder = specimen("UFPR-SR-Plates")
    text = next((folder / "tracks" / "track_00000").glob("*_*.txt"))
    text.rename(text.with_name("track_00000_ZZZ9999.txt"))
    note = folder / "tracks" / "track_00001" / "hr-002.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "imageHeight": 999}))
    check(folder, 1, "the folder has track_00000_ZZZ9999.txt", "hr-002.json speaks of a picture of", "mislabelled: 2")


def test_lists_with_blank_lines_and_notes_beside_them(specimen):
    folder = specimen("UFPR-SR-Plates")
    before = found(folder)
    (folder / "tracks.txt").write_text("\n" * 30 + (folder / "tracks.txt").read_text())
    (folder / "readme.txt").write_text("format: HR.jpg;LR.jpg;split\n")
    assert found(folder) == before


def test_a_name_with_a_dot_is_no_suffix(with_picture):
    folder = with_picture("car.png", PNG)
    with open(folder / "labels.csv", "a") as f:
        f.write("hr/car.17,XYZ9877,,brazilian,,test\n")
    check(folder, 1, "11 plates", "no picture hr/car.17")
    (folder / "hr" / "car.17.png").write_bytes(JPEG)
    assert found(folder) == {"rows": 12}


def test_a_track_has_one_text(specimen):
    folder = specimen("labels.csv")
    lines = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
    same = [line[:4] + ["same", "train"] for line in lines[1:3]]
    (folder / "labels.csv").write_text("\n".join(",".join(line) for line in [lines[0], *same, *lines[3:]]))
    assert found(folder) == {"rows": 8, "mislabelled": 2}


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_cannot_be_printed(specimen):
    folder = specimen("labels.csv")
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), b"hr", name))).write_bytes(PNG)
    done = subprocess.run(
        [*COMMAND, "data", "check", str(folder)],
        capture_output=True,
        env={**environment(), "PYTHONIOENCODING": "utf-8:strict"},
    )
    out = done.stdout.decode()
    assert done.returncode == 1 and not done.stderr and "caf\\udce9.png" in out and "two\\nlines.png" in out, (
        out,
        done.stderr,
    )


def test_the_leaks_of_a_published_split_are_reported_and_held_back(specimen):
    folder = specimen("UFPR-SR-Plates")
    lines = (folder / "tracks.txt").read_text().splitlines()  # the second track is of the test split
    (folder / "tracks.txt").write_text("\n".join(lines + [f"{lines[1].split(';')[0]};tracks/new;training"]))
    shutil.copytree(folder / "tracks" / "track_00000", folder / "tracks" / "new")
    next((folder / "tracks" / "new").glob("*_*.txt")).unlink()
    for path in (folder / "tracks" / "new").glob("*.png"):
        write_image(path, 255 - read_image(path))
    check(folder, 1, "leaks: 1", lines[1].split(";")[0], "1 fault")
    table = read_data(folder)
    assert (
        len(table.faults["held_back"]) == 5
        and not any(r.track == "tracks/new" for r in table.rows)
        and "5 held back" in summary(table)
    )
    assert len(FilePlates(table)) == 25


def test_tracks_of_one_plate_stay_together_where_the_set_has_no_split(specimen):
    track = sorted(specimen("LRLPR-26").rglob("annotations.json"))[0].parent
    for i in range(20):
        shutil.copytree(track, track.with_name(f"track_9{i:04d}"))
    rows = [
        r
        for r in scan(track.parents[2]).rows
        if r.text == json.loads((track / "annotations.json").read_text())["plate_text"]
    ]
    assert len(rows) == 21 * 5 and len({r.track for r in rows}) == 21 and len({r.split for r in rows}) == 1
    check(track.parents[2], 1, "duplicates: 200")


def test_everything_at_once_ends_in_time_and_adds_up(specimen):
    folder = specimen("labels.csv")
    lines = []
    for name, content in {**{n: c for n, (c, _) in READ.items()}, **UNREADABLE}.items():
        (folder / "hr" / name).write_bytes(content)
        lines.append(f"hr/{name},XYZ9876,,brazilian,,test")
    with open(folder / "labels.csv", "a", encoding="utf-8") as f:
        f.write("\n".join([*lines, *LINES]) + "\n")
    command = [*COMMAND, "data", "check", str(folder), "--all"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    counts = found(folder)
    assert sum(counts.values()) == 10 + len(lines) + len(LINES) and counts["unreadable"] == len(UNREADABLE)
    assert f" {counts['rows']} plates" in done.stdout
