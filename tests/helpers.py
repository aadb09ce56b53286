"Running the command line, in this process or as one of its own"

import contextlib
import io
import os
import random
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from lp_asrn.tools.cli import main
from lp_asrn.training import calibrate

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from lp_asrn.tools.cli import main; main()"]
FEW = {"READINGS": 200, "TRACKS": 20}  # to calibrate on; thousands take longer than all stages of a tiny run
QUICKLY = [*COMMAND[:2], f"from lp_asrn.training import calibrate; vars(calibrate).update({FEW}); {COMMAND[2]}"]
TINY = (
    "--model.num_channels 8 --model.growth_channels 8 --model.num_rrdb_blocks 1 --model.dense_layers 2"
    " --model.prior_channels 8 --model.recognizer.channels 8 8 16"
    " --model.recognizer.hidden 16 --model.embedder.channels 8 8 8 --data.looks 1"
    " --training.num_workers 0 --training.val_every 1 --training.precision fp32 --device cpu"
).split()


class Terminal(io.StringIO):
    "A stream that says it is one"

    def isatty(self):
        return True


@dataclass
class Outcome:
    "How a command ended"

    code: int
    out: str
    err: str


def environment() -> dict:
    "One thread, no terminal width, this checkout's package"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(*args) -> list[str]:
    "What to start for a verb and its options; a training calibrates on few readings"
    return [*(QUICKLY if args[0] == "train" else COMMAND), *map(str, args)]


def run(*args) -> Outcome:
    "The command in this process; a training calibrates on few readings. An exception that `main` lets out is raised"
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.multiple(calibrate, **FEW):
        try:
            main([str(a) for a in args])
        except SystemExit as e:
            code = e.code or 0
    return Outcome(code, out.getvalue(), err.getvalue())


def run_process(*args) -> Outcome:
    "The command as a process of its own: some five seconds more than `run`"
    done = subprocess.run(
        command(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), timeout=600
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def start(*args) -> subprocess.Popen:
    "The command as a running process; its standard output can be read line by line"
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command(*args), env=environment(), **pipes)


def refused(outcome: Outcome, *fragments: str) -> None:
    "Assert exit code 2 and one line on stderr that has the fragments"
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lp_asrn: error: "), outcome.err
    for fragment in fragments:
        assert fragment in lines[0], (fragment, lines[0])


def quiet_port() -> int:
    "A port that is free, and the next one too; below those that systems hand out, so that no other test is given one"
    while True:
        port = random.SystemRandom().randrange(20000, 30000, 2)
        with socket.socket() as a, socket.socket() as b:
            try:
                a.bind(("127.0.0.1", port))
                b.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue
