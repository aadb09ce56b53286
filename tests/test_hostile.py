"Files that someone else has made: refused in one line, nothing executed, nothing overwritten"

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import TINY, refused, run
from hostile import contents
from safetensors.torch import save_file

from lp_asrn.config import DATA_DIR
from lp_asrn.models.folders import weights_path
from lp_asrn.models.weights import load_tensors, save_tensors

QUICK = [
    "--no-tensorboard",
    "--data.num_train",
    8,
    "--data.num_val",
    8,
    "--data.num_test",
    8,
    "--batch-size",
    4,
    "--progressive_training.stage0.epochs",
    1,
]
TRAIN = ["train", "--stage", "0", *TINY, *QUICK]


class Trap:
    "Writes a file if it is unpickled"

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def spoilt(source: Path, path: Path, change) -> Path:  # `path`
    "A checkpoint with its tensors and note changed"
    tensors, note = load_tensors(source)
    change(tensors, note)
    save_tensors(path, tensors, note)
    return path


def small(change):
    "Makes the weights of the package, changed, in a folder"
    return lambda folder: spoilt(SMALL, folder / "spoilt.safetensors", change)


def state(change):
    "Changes a state where it lies"
    return lambda path: spoilt(path, path, change)


def pickled(folder: Path) -> Path:
    path = folder / "pickled.safetensors"
    path.write_bytes(pickle.dumps(Trap(folder / "sprung")))
    return path


def torch_file(folder: Path) -> Path:
    path = folder / "best.pth"
    torch.save({"model": Trap(folder / "sprung")}, path)
    assert zipfile.is_zipfile(path)
    return path


def truncated(folder: Path) -> Path:
    whole, path = weights_path("small").read_bytes(), folder / "short.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    return path


def foreign(folder: Path) -> Path:
    path = folder / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"note": "[[[["})
    return path


def endless(folder: Path) -> Path:
    path = folder / "endless.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"note": "[" * 200_000})
    return path


def first(tensors: dict) -> str:
    return next(k for k in sorted(tensors) if k.startswith("generator."))


SMALL = weights_path("small")
FILES = {
    "pickle": (pickled, "is not a checkpoint of LP-ASRN, or it is damaged"),
    "torch.save": (torch_file, "is not a checkpoint of LP-ASRN, or it is damaged"),
    "truncated": (truncated, "is not a checkpoint of LP-ASRN, or it is damaged"),
    "foreign": (foreign, "is not a checkpoint of LP-ASRN, or it is damaged"),
    "missing tensor": (small(lambda t, n: t.pop(first(t))), "has no tensor"),
    "surplus tensor": (
        small(lambda t, n: t.update({"generator.extra": torch.zeros(1)})),
        "has a surplus tensor 'extra'",
    ),
    "wrong shape": (small(lambda t, n: t.update({first(t): torch.zeros(1, 2)})), "has shape (1, 2), expected"),
    "unknown setting": (small(lambda t, n: n["model"].update(evil=1)), "evil"),
    "a name that leads elsewhere": (
        small(lambda t, n: n["model"]["recognizer"]["layouts"].update({"../../evil": "LLLDDDD"})),
        "model.recognizer.layouts",
    ),
    "a size beyond reason": (
        small(lambda t, n: n["model"].update(num_rrdb_blocks=10**9)),
        "model.num_rrdb_blocks must be at most",
    ),
    "a note without end": (endless, "is not a checkpoint of LP-ASRN, or it is damaged"),
    "a look at the environment": (
        small(lambda t, n: n["model"].update(deform_alternative="${oc.env:HOME}")),
        "may not occur in it",
    ),
    "a calibration that is none": (
        small(lambda t, n: n["calibration"].update(lr="x")),
        "its calibration cannot be read",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_checkpoint_of_someone_else(name, tmp_path):
    make, words = FILES[name]
    bad, crop, out = make(tmp_path), next((DATA_DIR / "examples").glob("*.png")), tmp_path / "out"
    out.mkdir()
    (out / "mine.png").write_bytes(b"mine")
    before = contents(tmp_path)
    commands = [["read", crop], ["enhance", crop, out / "sr.png"], ["export", out, "--overwrite"]]
    commands += [["evaluate", "--num", 4, "--save-dir", out / "new"]]
    every = name in ("pickle", "wrong shape", "a calibration that is none")  # all of them open a checkpoint in one way
    for args in commands if every else commands[:1]:
        refused(run(*args, "--checkpoint", bad), words)
    if every and name != "a calibration that is none":
        refused(run(*TRAIN, "--training.start-from", bad, "--save-dir", tmp_path / "run"), words)
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def stage0(shared):
    "A run of stage 0, which has ended; `done` is taken back where it is to go on"
    return shared("stage0", lambda folder: run(*TRAIN, "--save-dir", folder))[0]


UNREADABLE, DAMAGED = "holds no training state that can be read", "is not a checkpoint of LP-ASRN, or it is damaged"
STATES = {
    "pickle": (lambda f: Path.rename(pickled(f.parent), f), DAMAGED),
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:5000]), DAMAGED),
    "missing tensor": (state(lambda t, n: t.pop(min(k for k in t if k.startswith("recognizer.")))), "has no tensor"),
    "missing moment": (state(lambda t, n: t.pop(min(k for k in t if k.startswith("optimizer")))), "tensors, expected"),
    "foreign position": (state(lambda t, n: n["position"].update(evil=1)), UNREADABLE),
    "no position": (state(lambda t, n: n.update(position=None)), UNREADABLE),
    "an epoch before the first": (state(lambda t, n: n["position"].update(epoch=-1)), "a negative position"),
    "no threads": (state(lambda t, n: n.pop("threads")), UNREADABLE),
    "random numbers beyond reason": (state(lambda t, n: t.update({"random.cpu": t["random.cpu"][:3]})), UNREADABLE),
    "weights for other characters": (state(lambda t, n: n["position"].update(classes=[1.0])), UNREADABLE),
}


@pytest.mark.xdist_group("stage0")  # which is trained once
@pytest.mark.parametrize("name", STATES)
def test_state_of_someone_else(name, stage0, tmp_path):
    folder, (spoil, words) = tmp_path / "run", STATES[name]
    shutil.copytree(stage0, folder)
    last = folder / "stage0" / "last.safetensors"
    spoil(spoilt(last, last, lambda t, n: n["position"].update(done=False)))
    before = contents(folder)
    found = run(*TRAIN, "--save-dir", folder, "--resume")
    refused(found, words)
    after = contents(folder)
    changed = {os.path.basename(k).decode() for k in before if before[k] != after.get(k)}
    assert changed <= {"run.json", "config.yaml"} and not list(tmp_path.rglob("sprung")), changed


def test_settings_that_lead_elsewhere(tmp_path):
    layouts = (DATA_DIR / "layouts.yaml").read_text()
    for old, new, words in (
        ("brazilian:", "../../evil:", "its name must be letters"),
        ("mandatory:", "../../evil.ttf:", "must lie beside the layout's file"),
    ):
        path = tmp_path / "layouts.yaml"
        path.write_text(layouts.replace(old, new, 1))
        before = contents(tmp_path)
        refused(run("synth", tmp_path / "plates", "--n", 2, "--layouts", path), words)
        refused(run(*TRAIN, "--data.layouts", path, "--save-dir", tmp_path / "run"), words)
        assert contents(tmp_path) == before


def test_a_damaged_state_is_named_with_a_way_out(tmp_path):
    "States are written whole or not at all: only the disk can damage one"
    words = [*TRAIN, "--save-dir", tmp_path, "--training.save_every", 1]
    assert run(*words).code == 0
    last = tmp_path / "stage0" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:5000])
    refused(run(*words, "--resume"), str(last), "damaged", "--overwrite")
    assert run(*words, "--overwrite").code == 0
