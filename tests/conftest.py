"Fixtures: a tiny trained run, a folder of rendered plates"
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import TINY, Outcome, run, run_process

torch.set_num_threads(1)  # the thread count changes the last bits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would the commands that tests start


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> tuple[Path, Outcome]:
    "All five stages of the smallest models: folder, and how the command ended"
    folder = tmp_path_factory.mktemp("trained") / "run"
    outcome = run_process("train", "--debug", "--no-tensorboard", "--save-dir", folder, *TINY)
    assert outcome.code == 0, outcome.err
    return folder, outcome


@pytest.fixture(scope="session")
def trained(trained_run) -> Path:
    "Folder of the trained run"
    return trained_run[0]


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    "Its best models"
    return trained / "best.safetensors"


@pytest.fixture(scope="session")
def plates(tmp_path_factory) -> Path:
    "A data folder that `lp_asrn synth` wrote"
    folder = tmp_path_factory.mktemp("synth") / "plates"
    assert run("synth", folder, "--n", 40).code == 0
    return folder


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
