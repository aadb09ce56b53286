"Fixtures: a tiny trained run, a folder of rendered plates"

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import TINY, Outcome, run

torch.set_num_threads(1)  # the thread count changes the last bits
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background job ignores Ctrl-C, and so would the commands that tests start


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """What a command makes once for all workers of pytest-xdist: shared(name, command) -> its folder, how it ended.

    The first worker that asks makes it, the others wait. A test that changes it takes a copy."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def share(name: str, command) -> tuple[Path, Outcome]:
        place = root / f"shared-{name}"
        with FileLock(place.with_suffix(".lock")):
            if not place.exists():
                place.mkdir()
                (place / "outcome.json").write_text(json.dumps(asdict(command(place / name))))
            assert (place / "outcome.json").is_file(), (
                f"{place} could not be made: the error of the test that asked first, maybe in another worker, says why"
            )
            outcome = Outcome(**json.loads((place / "outcome.json").read_text()))
        assert outcome.code == 0, outcome.err
        return place / name, outcome

    return share


@pytest.fixture(scope="session")
def trained_run(shared) -> tuple[Path, Outcome]:
    "All five stages of the smallest models: folder, and how the command ended"
    return shared("run", lambda folder: run("train", "--debug", "--no-tensorboard", "--save-dir", folder, *TINY))


@pytest.fixture(scope="session")
def trained(trained_run) -> Path:
    "Folder of the trained run"
    return trained_run[0]


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    "Its best models"
    return trained / "best.safetensors"


@pytest.fixture(scope="session")
def plates(shared) -> Path:
    "A data folder that `lp_asrn synth` wrote"
    return shared("plates", lambda folder: run("synth", folder, "--n", 40))[0]


@pytest.fixture
def picture(tmp_path):
    "Writes a picture of noise: picture(name, height, width) -> path"

    def write(name: str, height: int = 16, width: int = 48) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), noise)
        return path

    return write
