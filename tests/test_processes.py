"Several processes train as one, and notice when one of them is gone"

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import share_work
import torch
from helpers import TINY, Outcome, command, environment, refused, run
from specimens import SPECIMENS

import lp_asrn
from lp_asrn.models.weights import load_note, load_tensors, save_tensors
from lp_asrn.plates.datasets import Loader
from lp_asrn.settings import load_config
from lp_asrn.training.run import Run, training_set
from lp_asrn.training.stages import STAGES, parse_stages

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
    pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="no /proc to find the processes in"),
]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
QUICK = [
    "--no-tensorboard",
    "--data.num_train",
    "24",
    "--data.num_val",
    "130",
    "--data.num_test",
    "8",
    "--batch-size",
    "4",
    "--training.save_every",
    "2",
]
EPOCHS = [w for s in parse_stages("all") for w in (f"--progressive_training.{s.key}.epochs", "1")]
TRAIN = ["train", *TINY, *QUICK, *EPOCHS]


def workers(process: subprocess.Popen) -> dict:
    "pid of each process that a launcher has started, by rank"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {
        p: [w for w in Path(f"/proc/{p}/environ").read_text().split("\0") if w.startswith("RANK=")] for p in children
    }
    return {int(words[0].removeprefix("RANK=")): int(p) for p, words in ranks.items() if words}


@pytest.fixture
def launch():
    "Starts so many processes of a Python command; whatever still runs at the end of the test is ended"
    started = []

    def start(count: int, *args) -> subprocess.Popen:
        command = [*LAUNCH, str(count), *map(str, args)]
        started.append(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            left = workers(process).values()
            process.kill()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def train(launch):
    "Starts so many processes of `lp_asrn train`"
    return lambda count, folder, *args: launch(count, "--no-python", *command(*TRAIN, "--save-dir", folder, *args))


def finish(process: subprocess.Popen, timeout: float = 600) -> str:
    "What it wrote on stderr"
    return process.communicate(timeout=timeout)[1]


def wait_for(path: Path) -> None:
    "Until a file is there"
    end = time.monotonic() + 300
    while not path.is_file() and time.monotonic() < end:
        time.sleep(0.05)


def test_shares_add_up(launch, tmp_path):
    "Losses, gradients, the miner's accuracies and validations are those of one process with the whole batch"
    process = launch(3, share_work.__file__, tmp_path / "shared.safetensors")
    share_work.work(tmp_path / "alone.safetensors")
    err = finish(process)
    assert process.returncode == 0, err
    (want, alone), (got, shared) = (load_tensors(tmp_path / f"{name}.safetensors") for name in ("alone", "shared"))
    assert want.keys() == got.keys() and alone["ids"] == shared["ids"] and len(want) > 300
    for part in ["judge", "accuracy", "loss", "val", *share_work.OBJECTIVES]:
        whole, added = (
            torch.cat([t[k].flatten().double() for k in sorted(t) if k.startswith(f"{part}.")]) for t in (want, got)
        )
        error = (whole - added).norm() / whole.norm()
        print(f"{part}: {len(whole)} numbers, relative error {error:.0e}, at most {(whole - added).abs().max():.0e}")
        assert error < 1e-4 and (whole - added).abs().max() < 1e-4, part  # rounding is some 1e-5


LONGER = ["--progressive_training.stage0.epochs", "12"]  # so that it can be stopped


@pytest.fixture(scope="module")
def by_two(shared) -> tuple[Path, Outcome]:
    "All stages trained by two processes: folder, and how they ended"

    def both(folder) -> Outcome:
        words = [*LAUNCH, "2", "--no-python", *command(*TRAIN, "--save-dir", folder, *LONGER)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=900)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return shared("by-two", both)


def test_two_processes_train_all_stages(by_two):
    folder, outcome = by_two
    for stage in parse_stages("all"):
        note = load_note(folder / stage.tag / "last.safetensors")
        assert note["position"]["done"] and note["processes"] == 2
    drawn = load_tensors(folder / stage.tag / "last.safetensors", "miner.known")[0]["miner.known"]
    assert len(drawn) > 3 * 24, "of pools of three batches, those of both processes are remembered"
    assert (folder / "report.html").is_file()
    assert outcome.err.count("epoch 1/1") == len(parse_stages("all")), "one process speaks"
    start = json.loads((folder / "run.json").read_text())[-1]
    assert (start["processes"], start["outcome"]) == (2, "finished")


# what a process writes down of its end takes longer than its launcher takes to send SIGTERM to those that are left
SLOW_DISK = """import time
from lp_asrn.tools.cli import main
from lp_asrn.training import record
write = record.write_json
record.write_json = lambda *what: (time.sleep(1), write(*what))
main()"""


def test_one_process_is_killed(launch, tmp_path):
    "The other stops within a minute and says why; the run goes on, with other processes if need be"
    words = [*TRAIN, "--save-dir", tmp_path, "--stage", "0", "--progressive_training.stage0.epochs", "1000"]
    process, folder = launch(2, "--no-python", sys.executable, "-c", SLOW_DISK, *words), tmp_path / "stage0"
    wait_for(folder / "last.safetensors")
    killed = time.monotonic()
    os.kill(workers(process)[1], signal.SIGKILL)
    err = finish(process, 90)
    assert time.monotonic() - killed < 60 and process.returncode != 0
    assert "lp_asrn: error: process 0 has lost the other processes of this training" in err, err
    assert json.loads((tmp_path / "run.json").read_text())[-1]["outcome"].startswith("failed: process 0 has lost")
    epochs = load_note(folder / "last.safetensors")["position"]["epoch"]
    done = run(
        *TRAIN, "--save-dir", tmp_path, "--stage", "0", "--progressive_training.stage0.epochs", epochs + 1, "--resume"
    )
    assert (
        done.code == 0
        and "saved with 1 threads in each of 2 processes, goes on with 1 threads in each of 1 processes" in done.out
    ), done


def test_stopped_together_and_resumed(train, by_two, tmp_path):
    "SIGTERM to the launcher stops all after the same step, state saved; resumed, they end with the undisturbed bits"
    words = ["--stage", "0", *LONGER]
    process = train(2, tmp_path, *words)
    wait_for(tmp_path / "stage0" / "last.safetensors")
    process.terminate()
    err = finish(process)
    assert "stopped in epoch" in err and err.count("Go on with: lp_asrn train") == 1, err
    assert json.loads((tmp_path / "run.json").read_text())[-1]["outcome"] == "interrupted"
    process = train(2, tmp_path, *words, "--resume")
    err = finish(process)
    assert process.returncode == 0, err
    want, got = (load_tensors(folder / "stage0" / "last.safetensors")[0] for folder in (by_two[0], tmp_path))
    assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want)


def test_processes_with_folders_of_their_own(launch, tmp_path):
    "As on machines that share no file system: noticed before anything is trained"
    for rank, epochs in ((0, 1), (1, 2)):
        words = [
            *TRAIN,
            "--save-dir",
            tmp_path / str(rank),
            "--stage",
            "0",
            "--progressive_training.stage0.epochs",
            epochs,
        ]
        assert run(*words).code == 0
        other = tmp_path / str(rank) / "stage0" / "last.safetensors"
        tensors, note = load_tensors(other)
        save_tensors(other, tensors, note | {"position": note["position"] | {"done": False}})
    code = "import os, sys; from lp_asrn.tools.cli import main; root, *words = sys.argv[1:];"
    code += "main([*words, '--save-dir', root + '/' + os.environ['RANK']])"
    process = launch(
        2,
        "--no-python",
        sys.executable,
        "-c",
        code,
        tmp_path,
        *TRAIN,
        "--stage",
        "0",
        "--progressive_training.stage0.epochs",
        3,
        "--resume",
    )
    err = finish(process)
    assert (
        process.returncode != 0 and "lp_asrn: error: stage0: the processes do not start from the same state" in err
    ), err


def test_batches_must_be_shared_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("lp_asrn.training.checks.world_size", lambda: 2)
    outcome = run(*TRAIN, "--save-dir", tmp_path, "--batch-size", "5")
    refused(outcome, "training.batch_size: 5 plates cannot be shared evenly by 2 processes")
    assert not any(tmp_path.iterdir())


# ---- workers that prepare plates


@pytest.mark.parametrize("form", [*SPECIMENS, None], ids=str)
def test_whatever_a_worker_gets_can_be_sent_to_it(form, tmp_path):
    "Not only where processes are forked: the plates of all stages, of every kind of data folder, and rendered ones"
    if form:
        (tmp_path / "plates").mkdir()
        SPECIMENS[form](tmp_path / "plates", np.random.default_rng(0))
    config = load_config("demo", overrides=["data.num_train=4"])
    config.data.data_root = str(tmp_path / "plates") if form else None
    run = Run(config, tmp_path / "run", log=lambda line: None, tensorboard=False)
    for stage in STAGES.values():
        plates = training_set(run, stage)
        there = pickle.loads(pickle.dumps(plates))
        (here,), (other,) = (list(Loader(data, [[(0, 0)]])) for data in (plates, there))
        assert torch.equal(here.lr, other.lr) and here.texts == other.texts and plates.fingerprint == there.fingerprint


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_need_not_be_forked(method, plates, tmp_path):
    "As on macOS and Windows, and by default in newer Pythons; what comes out are the same bits"
    words = "train", "--stage", 0, "--debug", "--no-tensorboard", "--data-root", plates, *TINY
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        done = run(*words, "--training.num-workers", 1, "--save-dir", tmp_path / method)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert done.code == 0, done
    assert run(*words, "--save-dir", tmp_path / "none").code == 0
    want, got = (load_tensors(tmp_path / name / "stage0" / "last.safetensors")[0] for name in ("none", method))
    assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want)


@pytest.mark.parametrize("module", ["lp_asrn", "lp_asrn.tools.cli"])
def test_python_runs_the_package_as_the_command(module):
    done = subprocess.run([sys.executable, "-m", module, "trian"], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "did you mean 'train'" in done.stderr


def test_torchrun_runs_the_package_as_the_command():
    done = subprocess.run(
        [*LAUNCH, "1", "-m", "lp_asrn", "--version"], capture_output=True, text=True, env=environment()
    )
    assert done.stdout == f"{lp_asrn.__version__}\n", done
