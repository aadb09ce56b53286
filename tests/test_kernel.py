"The C++ kernel of the deformable convolution: built by training, never by reading"

import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers import TINY, environment, refused, run, run_process

from lp_asrn.models.deform_cpp import build

COMPILER = shutil.which("c++") is not None


@pytest.fixture
def empty(tmp_path, monkeypatch):
    "An empty folder for kernels, for processes that start from here"
    folder = tmp_path / "kernels"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    return folder


def test_inference_builds_nothing(empty, checkpoint, picture, tmp_path):
    crop, out = map(str, (picture("crop.png", 16, 48), tmp_path / "out"))
    both = [[*words, "--checkpoint", str(checkpoint)] for words in (("read", crop), ("enhance", crop, out))]
    code = f"from lp_asrn.tools.cli import main; [main(words) for words in {both}]"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "kernel" not in done.stdout + done.stderr, done
    assert not empty.exists()


BUILD = [sys.executable, "-c", "from lp_asrn.models.deform_cpp import build; print(build())"]
TRAIN = ("train", "--stage", "1", "--debug", "--no-tensorboard", *TINY)


@pytest.mark.skipif(not COMPILER, reason="no compiler")
def test_training_builds_the_kernel_once(empty, trained, tmp_path):
    outcome = run_process(*TRAIN, "--overwrite", "--save-dir", shutil.copytree(trained, tmp_path / "run"))
    assert outcome.code == 0 and "building the C++ kernel" in outcome.out, outcome
    (kernel,) = empty.glob("*/kernel.so")
    assert not list(empty.glob("*/work-*"))
    before = kernel.stat().st_mtime_ns
    again = subprocess.run(BUILD, env=environment(), capture_output=True, text=True)
    assert again.stdout == "None\n" and kernel.stat().st_mtime_ns == before, again


def test_training_goes_on_without_a_compiler(empty, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    run_dir = shutil.copytree(trained, tmp_path / "run")
    outcome = run_process(*TRAIN, "--overwrite", "--save-dir", run_dir)
    assert outcome.code == 0 and outcome.out.count("no C++ kernel: ") == 1 and "no-such-compiler" in outcome.out, (
        outcome
    )
    assert "WARNING" not in outcome.err
    before = sorted(p.name for p in (run_dir / "stage1_warmup").iterdir())
    refused(
        run_process(*TRAIN, "--overwrite", "--save-dir", run_dir, "--training.deform-backend", "cpp"),
        "backend 'cpp'",
        "no-such-compiler",
    )
    assert sorted(p.name for p in (run_dir / "stage1_warmup").iterdir()) == before, (
        "nothing is deleted by a run that cannot start"
    )


@pytest.mark.skipif(not COMPILER, reason="no compiler")
def test_a_killed_builder_and_two_at_once(empty):
    first = subprocess.Popen(BUILD, env=environment(), start_new_session=True)
    end = time.monotonic() + 300
    while not list(empty.rglob("build.ninja")) and time.monotonic() < end:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and list(empty.glob("*/work-*/*")) and not list(empty.glob("*/kernel.so"))
    both = [
        subprocess.Popen(BUILD, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=600)[0].strip() for p in both] == ["None", "None"]
    assert len(list(empty.glob("*/kernel.so"))) == 1


def test_stages_without_a_generator_need_no_kernel(empty, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = ("--stage", "0", "--save-dir", tmp_path / "run", "--training.deform-backend", "cpp")
    outcome = run_process("train", "--debug", "--no-tensorboard", *TINY, *words)
    assert outcome.code == 0 and "kernel" not in outcome.out, outcome


def test_bench_compares_what_is_here():
    outcome = run("bench", "deform", "--size", 1, 8, 4, 6, "--groups", 2)
    there = build() is None
    assert (
        outcome.code == 0
        and "conv 3x3" in outcome.out
        and "DCNv4 reference" in outcome.out
        and ("DCNv4 cpp" in outcome.out) == there
    )
    assert not outcome.err


@pytest.mark.parametrize(
    "words, fragment",
    [
        (("--groups", 5), "divisor"),
        (("--size", 0, 8, 4, 6), "at least 1"),
        (("--size", 10**6, 64, 10**4, 10**4), "cannot be timed"),
    ],
)
def test_bench_refuses_what_makes_no_sense(words, fragment):
    refused(run("bench", "deform", *words), fragment)
