"The inputs of ../shared/cases: pictures, names and a full disk, each with what the README there says of it"

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT, refused, run
from hostile import attack
from PIL import Image

from lp_asrn.config import UserError
from lp_asrn.reading.reader import Reader

CASES = ROOT.parent / "shared" / "cases"
pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases, which is not part of the project, is not here"),
    pytest.mark.usefixtures("quick_reader"),
]


@pytest.fixture
def crops(tmp_path):
    "A folder with copies of a crop: crops(name, ...) -> the folder"

    def made(*names) -> Path:
        (tmp_path / "crops").mkdir()
        for name in names:
            shutil.copyfile(CASES / "pictures" / "AJH9B36.png", tmp_path / "crops" / name)
        return tmp_path / "crops"

    return made


# Names


def test_a_name_that_is_not_utf8(crops, tmp_path):
    folder = crops(os.fsdecode(b"caf\xe9.png"), "plain.png")
    attack("enhance", folder, tmp_path / "out", codes=(0,))
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"caf\xe9.png", b"plain.png"]
    out = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    attack("enhance", folder, out, codes=(0,))
    attack("synth", out + "2", "--n", 3, codes=(0,))
    assert len(os.listdir(out)) == 2 and len(os.listdir(out + "2/hr")) == 3


# Pictures


@pytest.mark.parametrize("path", sorted((CASES / "pictures").glob("*")), ids=lambda p: p.name)
def test_a_picture_is_never_black(path, tmp_path):
    found = attack("enhance", path, tmp_path / "sr.png", codes=(0, 2))
    if found.code == 0:
        assert cv2.imread(str(tmp_path / "sr.png")).std() > 10


def test_a_real_tiff_is_the_picture_that_it_was_made_of(tmp_path):
    png, tif = (np.asarray(Image.open(CASES / "pictures" / f"AJH9B36{end}")) for end in (".png", "_float01.tif"))
    assert tif.dtype == np.float32 and tif.max() <= 1
    reader = Reader()
    a, b = (reader.enhance(CASES / "pictures" / f"AJH9B36{end}") for end in (".png", "_float01.tif"))
    assert np.abs(a.astype(int).mean() - b.mean()) < 20, "as light as the other, and not black"


def test_any_form_of_a_crop_is_read_alike_or_refused():
    reader, path = Reader(), CASES / "pictures" / "AJH9B36.png"
    rgb = np.asarray(Image.open(path).convert("RGB"))
    same = {
        "array": rgb, "path": path, "text": str(path), "Pillow": Image.open(path), "real": rgb / 255.0,
        "real, to 255": rgb * 1.0,
        "float32": (rgb / 255).astype(np.float32), "uint16": rgb.astype(np.uint16) * 257, "int64": rgb.astype(int),
        "RGBA": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
    }  # fmt: skip
    want = reader.enhance(rgb)
    for name, crop in same.items():
        assert np.abs(reader.enhance(crop).astype(int) - want).max() <= 3, name
        assert reader.read([crop])[0].text == reader.read([rgb])[0].text, name
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    for crop in (grey, grey[..., None], grey > 127):
        assert reader.enhance(crop).std() > 10, "no black picture"
    for bad in (
        None,
        np.zeros((0, 5, 3)),
        "none.png",
        rgb[None],
        -rgb.astype(float),
        np.full((9, 9), np.nan),
        "text",
        7,
    ):
        for what in (reader.enhance, lambda x: reader.read([x])):
            with pytest.raises(UserError) as error:
                what(bad)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("precision", ["fp16", "half", "", "FP32"])
def test_a_precision_that_is_not_there_is_refused(precision):
    with pytest.raises(UserError, match="precision"):
        Reader(precision=precision)


# Ways to name crops


def test_several_pictures_folders_in_folders_and_suffixes(crops, tmp_path):
    folder = crops("a.png", "b.PNG")
    (folder / "more").mkdir()
    shutil.copyfile(folder / "a.png", folder / "more" / "c.png")
    for words, number in (([folder / "a.png", folder / "b.PNG"], 2), ([folder], 3), ([folder, folder / "a.png"], 3)):
        assert run("read", *words).out.count("\n") == number
    assert run("enhance", folder / "a.png", tmp_path / "one.jpg").code == 0
    assert Image.open(tmp_path / "one.jpg").format == "JPEG"
    assert run("enhance", folder, tmp_path / "all", "--device", "cpu").code == 0
    assert (tmp_path / "all" / "more" / "c.png").is_file()
    refused(run("enhance", folder / "a.png"), "last where SR goes")


# A disk


def test_a_disk_that_is_full_after_the_first_crop(crops, tmp_path):
    folder = crops(*(f"{i}.png" for i in range(8)))
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "out")]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (tmp_path / "out" / "filler").write_bytes(bytes(54 << 10))
        found = run("enhance", folder, tmp_path / "out")
        there = len(list((tmp_path / "out").glob("*.png")))
        assert found.code == 1 and 0 < there < 8 and found.out.splitlines()[-1].startswith(f"{there} written"), found
        assert found.err.count("No space left on device") == found.err.count("\n") == 8 - there
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "out")], check=True)
