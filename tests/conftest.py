"Fixtures: a tiny trained run, a folder of rendered plates"

import functools
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
from lab import CHROMIUM, FLAGS, Lab

from lp_asrn.models.model_set import ModelSet, save_models
from lp_asrn.plates.layouts import LAYOUTS
from lp_asrn.reading.reader import Reader
from lp_asrn.settings import load_config

torch.set_num_threads(1)  # the thread count changes the last bits
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background job ignores Ctrl-C, and so would the commands that tests start


@pytest.fixture(autouse=True)
def _own_layouts():
    "Layouts of one's own that a test's commands read in this process are gone after it"
    before = dict(LAYOUTS)
    yield
    LAYOUTS.clear()
    LAYOUTS.update(before)


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
    "Writes a picture of noise, two pixels to a grain: picture(name, height, width) -> path"

    def write(name: str, height: int = 16, width: int = 48) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (height // 2, width // 2, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
        return path

    return write


@pytest.fixture(scope="session")
def untrained(shared) -> Path:
    "Weights of the smallest models, untrained: what a command does with files does not hang on what it reads"

    def save(folder: Path) -> Outcome:
        settings = (f"{k.removeprefix('--')}={v}" for k, v in zip(TINY, TINY[1:]) if k.startswith("--model"))
        lists = {"model.recognizer.channels=8": "[8,8,16]", "model.embedder.channels=8": "[8,8,8]"}
        config = load_config(
            "demo", overrides=[f"{s.partition('=')[0]}={lists[s]}" if s in lists else s for s in settings]
        )
        torch.manual_seed(3)
        save_models(folder / "best.safetensors", ModelSet.build(config.model))
        return Outcome(0, "", "")

    return shared("untrained", save)[0] / "best.safetensors"


@pytest.fixture
def quick_reader(monkeypatch, untrained):
    "Commands that read by the package's weights read by small ones instead, which are loaded once"
    kept = functools.cache(lambda name, device, layouts, **how: Reader(name, device, layouts=layouts, **how))

    def reader(name="small", device="auto", layouts=None, **how):
        return kept(untrained if name == "small" else name, device, layouts and tuple(layouts), **how)

    for verb in ("read", "enhance"):
        monkeypatch.setattr(f"lp_asrn.tools.{verb}_command.Reader", reader)


def pytest_terminal_summary(terminalreporter):
    "How many hostile inputs of each kind there were"
    sums: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "hostile":
                sums[value[0]] = sums.get(value[0], 0) + value[1]
    if sums:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(sums.items()))
        terminalreporter.write_line(f"hostile inputs: {sum(sums.values())} ({kinds})")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "A JupyterLab server"
    with Lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    "Debian's Chromium"
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()
