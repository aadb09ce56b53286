"What comes in is taken for what it is, or a line says for what: LR alone, small HR, long texts, few plates"

import csv
import json
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import TINY, refused, run

from lp_asrn.plates.folder import write_table

CASES = Path(__file__).parents[2] / "shared" / "cases"
LONG = """\
long-2-2-4:
  mask: LLLLDDDD
  aspect: 4.7
  fonts: {sans: 1}
  characters: {box: [0.12, 0.15, 0.97, 0.85], gaps: {2: 0.6, 4: 0.3}}
  styles: {private: {plate: [240, 240, 240], ink: [20, 20, 20]}}
"""


@pytest.fixture
def folder_of(plates, tmp_path):
    "A data folder made of rows of `plates`: folder_of(change, first) -> folder"

    def make(change, first: int = 40) -> Path:
        with open(plates / "labels.csv", newline="") as f:
            rows = list(csv.DictReader(f))[-first:]
        folder = tmp_path / "own"
        shutil.rmtree(folder, ignore_errors=True)
        for row in rows:
            for name in filter(None, (change(row).get(key) for key in ("image_path", "lr_path"))):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(plates / name, folder / name)
        write_table(folder, [change(row) for row in rows])
        return folder

    return make


def alone(row: dict) -> dict:
    "LR without HR"
    return {key: row[key] for key in ("lr_path", "plate_text", "split")}


def as_hr(row: dict) -> dict:
    "LR that is called HR"
    return dict(image_path=row["lr_path"], plate_text=row["plate_text"])


def test_lr_alone(folder_of, checkpoint, tmp_path):
    "LR crops without HR are checked and read; what cannot be measured is not there, and it is said"
    folder = folder_of(alone)
    checked = run("data", "check", folder)
    assert checked.code == 0 and "40 without HR" in checked.out and "no row of HR" in checked.out, checked
    found = run("evaluate", "--checkpoint", checkpoint, "--data-root", folder, "--save-dir", tmp_path / "out")
    assert found.code == 0 and "LR pictures without HR" in found.out, found
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert {r["input"] for r in rows} == {"bicubic", "sr", "lr_reader"}
    assert all(r["psnr"] is None and r["ssim"] is None for r in rows)
    half = folder_of(lambda row: alone(row) | dict(image_path=row["image_path"] if row["split"] == "train" else ""))
    refused(run("train", "--data-root", half, "--debug", "--save-dir", tmp_path / "run", *TINY), "no HR picture", "val")
    assert not (tmp_path / "run").exists()


def test_small_hr(folder_of, checkpoint, tmp_path):
    "HR that is hardly larger than LR is named, with the way out"
    folder = folder_of(as_hr, 8)
    for said in (
        run("data", "check", folder),
        run("evaluate", "--checkpoint", checkpoint, "--data-root", folder, "--save-dir", tmp_path / "out"),
    ):
        assert said.code == 0 and "8 of 8 plates are HR pictures hardly larger than LR" in said.out, said
        assert "lr_path" in said.out and "8 plates are few" in said.out


def test_long_texts(plates, tmp_path, checkpoint):
    "Texts longer than the slots are refused before anything starts, naming the option; the judge says that it cannot"
    (own := tmp_path / "long.yaml").write_text(LONG)
    data, place = tmp_path / "data", tmp_path / "run"
    assert run("synth", data, "--n", 10, "--layouts", own).code == 0
    option = "--model.recognizer.num-slots 8"
    for source in ([], ["--data-root", data]):
        words = ["--data.layouts", own, *source, "--debug", "--save-dir", place, *TINY]
        refused(run("train", *words), "long-2-2-4", option)
        words = ["--checkpoint", checkpoint, "--layouts", own, *source, "--save-dir", place]
        refused(run("evaluate", *words), "long-2-2-4", option)
    assert not place.exists()


@pytest.mark.parametrize("given", [True, False])
def test_few_plates(plates, folder_of, tmp_path, given):
    "A training on one plate of each split: no warning, no nan, no interval without width, a line that it says little"
    seen = set()

    def first(row: dict) -> dict:
        return {k: row[k] for k in ("image_path", "plate_text", "split") if given or k != "split"}

    folder = folder_of(first)
    with open(folder / "labels.csv", newline="") as f:
        rows = [r for r in csv.DictReader(f) if not (r.get("split") in seen or seen.add(r.get("split")))]
    write_table(folder, rows)
    words = ["--data-root", folder, "--debug", "--no-tensorboard", "--save-dir", tmp_path / "run", *TINY]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = run("train", *words)
    if not given:  # a single plate, without a split
        return refused(outcome, "no plate to use in split", "a column 'split' in labels.csv")
    assert outcome.code == 0 and "1 plate is few" in outcome.out, outcome
    assert "nan" not in (outcome.out + outcome.err).lower() and "Warning" not in outcome.err
    for row in json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"]:
        for low, high in filter(None, (row["all_ci"], row.get("gain_ci"), row["direct_gain_ci"])):
            assert low < high, row


def test_photograph(tmp_path):
    "A photograph without a plate that fills it is read with a warning; enhance counts what it shrinks"
    rng = np.random.default_rng(0)
    clouds = cv2.resize(rng.integers(20, 220, (12, 16, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(tmp_path / "photo.png"), clouds)
    assert "no plate found surely" in run("read", tmp_path / "photo.png").out
    done = run("enhance", tmp_path / "photo.png", tmp_path / "sr.png")
    assert done.code == 0 and "1 larger than 128x64 pixels" in done.out, done
    example = run("read", "--example")
    assert example.code == 0 and "found surely" not in example.out, "crops of plates are found"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases lie beside the repository")
@pytest.mark.parametrize(
    "name, rows, faults",
    [
        *((f"tables/{name}", 8, "2 faults") for name in "caps macos semicolon_bom space splitnames tab".split()),
        ("tables/labels", 5, "19 faults"),
        ("lrlpr", 30, None),
        ("lrlpr/test", 10, None),
        ("one_training_plate", 3, "no fault"),
    ],
)
def test_cases(name, rows, faults):
    "What spreadsheets, archives and competitions leave is read"
    found = run("data", "check", CASES / name)
    assert f"{rows} plates" in found.out and (faults is None or found.out.endswith(f"{faults}\n")), found
    assert found.err == "" and "(U+200B)" in found.out or name != "tables/labels"
    assert "a label" not in found.out or "tables" in name
