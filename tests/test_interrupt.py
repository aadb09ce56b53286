"Ctrl-C, going on, and TensorBoard: with real processes"

import http.client
import itertools
import shutil
import signal
import socket
import threading
import time
import urllib.request

import pytest
import torch
from helpers import TINY, quiet_port, refused, run, start

from lp_asrn.models.weights import load_tensors

STEPS = ["--data.num_train", 160, "--data.num_val", 8, "--data.num_test", 8, "--batch-size", 2]  # 80 steps an epoch
EPOCHS = ["--progressive_training.stage0.epochs", 1, "--progressive_training.stage1.epochs", 2]


def wait_for(what, process, seconds: float = 300):
    "The first true value of `what()`; fails if the process ends before that"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"{process.returncode}: " + "".join(process.communicate()))


def line_with(text: str, process) -> str:
    "The first line of the process's output with that text"
    for line in process.stdout:
        if text in line:
            return line
    pytest.fail(process.communicate()[1])


def answers(url: str) -> bool:
    "True if a server answers there with TensorBoard's page"
    try:
        return b"ensor" in urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5).read()
    except (OSError, http.client.HTTPException):  # nobody there, or the connection found itself
        return False


def finish(process) -> tuple[int, str, str]:
    "Exit code, stdout, stderr"
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, err


def test_interrupted_and_resumed_is_as_if_nothing_had_been(trained, tmp_path):
    words = ["train", "--stage", 1, "--no-tensorboard", *TINY, *STEPS, *EPOCHS]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, before in itertools.product((whole, parts), ("stage0", "lr_reader")):
        shutil.copytree(trained / before, folder / before)
    assert run(*words, "--save-dir", whole).code == 0

    process = start(*words, "--save-dir", parts)
    last = parts / "stage1_warmup" / "last.safetensors"
    wait_for(
        lambda: last.is_file() and load_tensors(last)[1]["position"]["epoch"] == 1, process
    )  # the second has begun
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and "Traceback" not in err, err
    assert f"lp_asrn train --save-dir {parts} --stage 1 --device cpu --resume" in err and str(last) in err
    position = load_tensors(last)[1]["position"]
    assert position["epoch"] == 1 and 0 < position["step"] < 80 and not position["done"]

    refused(run(*words, "--save-dir", parts), "--resume")
    resumed = run(
        "train", "--save-dir", parts, "--stage", 1, "--resume", "--no-tensorboard", "--device", "cpu"
    )  # as it said
    assert resumed.code == 0, resumed.err
    want, got = load_tensors(whole / "stage1_warmup" / "last.safetensors")[0], load_tensors(last)[0]
    assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want), (
        "weights or optimiser moments differ"
    )


def test_one_run_a_folder_and_a_record_of_each_start(tmp_path):
    folder, words = tmp_path / "run", ["train", "--stage", 0, "--no-tensorboard", *TINY, *STEPS]
    process = start(*words, "--save-dir", folder, "--progressive_training.stage0.epochs", 1000)
    last = folder / "stage0" / "last.safetensors"
    wait_for(last.is_file, process)
    before = load_tensors(last)[1]["position"]["epoch"]
    refused(run(*words, "--save-dir", folder, "--resume"), f"pid {process.pid}", "--save-dir")
    refused(run(*words, "--save-dir", folder, "--overwrite"), f"pid {process.pid}")
    assert load_tensors(last)[1]["position"]["epoch"] >= before and "running" in run("runs", tmp_path).out
    process.kill()
    process.communicate()
    listed = run("runs", tmp_path)
    assert listed.code == 0 and "stage0" in listed.out and "killed" in listed.out, listed
    again = run(*words, "--save-dir", folder, "--resume", "--progressive_training.stage0.epochs", 1)
    assert again.code == 0 and "finished" in run("runs", tmp_path).out, again
    (tmp_path / "empty").mkdir()
    assert "no runs" in run("runs", tmp_path / "empty").out
    refused(run("runs", tmp_path / "none"), "no such folder")


def test_tensorboard_lives_as_long_as_the_run(tmp_path):
    port = quiet_port()
    with socket.socket() as taken:  # so that the next port must be found
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        long = ["--progressive_training.stage0.epochs", 1000]
        process = start("train", "--stage", 0, "--save-dir", tmp_path / "run", "--tb-port", port, *TINY, *STEPS, *long)
        url = line_with("TensorBoard", process).split()[-1]
        assert url == f"http://127.0.0.1:{port + 1}/"
        for pipe in (process.stdout, process.stderr):  # so that the process never waits for a reader
            threading.Thread(target=lambda p=pipe: p.read(), daemon=True).start()
        try:
            wait_for(lambda: answers(url), process)
            wait_for(lambda: list((tmp_path / "run" / "tensorboard" / "stage0").glob("events.*")), process)
            process.send_signal(signal.SIGINT)
            assert process.wait(300) == 130
        finally:
            process.kill()
    assert not answers(url)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port + 1))  # free again


def test_no_tensorboard_writes_no_logs(trained):
    assert not (trained / "tensorboard").exists()


def test_an_ablation_is_interrupted(tmp_path):
    process = start("ablate", "--save-dir", tmp_path / "runs", "--results", tmp_path / "results")
    for line in process.stdout:
        if line.startswith("stage0"):
            break
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1].endswith("Go on with the same command") and not list((tmp_path / "results").glob("*"))
