"The training panel, when the kernel it lives in ends"

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers import TINY, environment

KERNEL = """
import sys, time
from lp_asrn.tools.training_panel import TrainingPanel
panel = TrainingPanel(sys.argv[1], sys.argv[3:], "0", every=0.1)
panel.start.click()
while not (panel.child and any("epoch 1" in line for line in panel.lines)):
    assert panel.runs, panel.status.value
    time.sleep(0.05)
getattr(panel, sys.argv[2]).click()
print(panel.child.pid, panel.state, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what happens to the child of a lost kernel is Linux's to say")
@pytest.mark.parametrize("button, state", [("pause", "paused"), ("refresh", "training")])
def test_a_lost_kernel_leaves_a_saved_state(tmp_path, button, state):
    options = [
        *TINY,
        "--data.num_train",
        "64",
        "--data.num_val",
        "8",
        "--training.batch-size",
        "4",
        "--progressive_training.stage0.epochs",
        "500",
        "--progressive_training.stage0.patience",
        "500",
    ]
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, tmp_path / "run", button, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    pid, found = kernel.stdout.readline().split()
    child = psutil.Process(int(pid))
    assert found == state and child.is_running()
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    end = time.monotonic() + 300
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, child.status()
        time.sleep(0.1)
    (start,) = json.loads((tmp_path / "run" / "run.json").read_text())
    assert start["outcome"] == "interrupted" and (tmp_path / "run" / "stage0" / "last.safetensors").is_file()
