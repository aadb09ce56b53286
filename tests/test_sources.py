"Drawn plates on disk: safe to kill, shared by workers, and never in memory all at once"
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lp_asrn.plates.datasets import PlateDataset, loader
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import PictureStore, RenderedPlates

WRITER = """
import sys
import numpy as np
from lp_asrn.plates.sources import PictureStore
store = PictureStore((32, 96, 3), sys.argv[1])
store.put(0, np.zeros((32, 96, 3), np.uint8))
print("ready", flush=True)
while True:
    for i in range(200):
        store.put(i, np.full((32, 96, 3), i, np.uint8))
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_writing(tmp_path: Path, seed: int) -> None:
    "SIGKILL at a random moment: every record is either right or absent, and the file can be used at once"
    file = tmp_path / "plates"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0005, 0.02))
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = PictureStore((32, 96, 3), file)
    there = [i for i in range(200) if store.get(i) is not None]
    assert there and all((store.get(i) == i).all() for i in there)
    store.put(199, np.full((32, 96, 3), 7, np.uint8))
    assert (store.get(199) == 7).all()


def test_two_processes_and_their_workers_share_a_cache(tmp_path: Path) -> None:
    "Two loaders with two workers each fill one cache at the same time; a third source reads what was drawn without drawing"
    make = lambda: PlateDataset(RenderedPlates("train", 40, ["brazilian"], cache_dir=tmp_path), get_severity("medium"))
    keys = [[(0, i) for i in range(k, k + 8)] for k in range(0, 40, 8)]
    loaders = [iter(loader(make(), keys, num_workers=2)) for _ in range(2)]
    for a, b in zip(*loaders):
        assert (a.hr == b.hr).all() and (a.lr == b.lr).all()
    files = sorted(p.name.split(".")[-1] for p in tmp_path.iterdir())
    assert files == ["hr"] and (tmp_path / os.listdir(tmp_path)[0]).stat().st_size == 40 * (32 * 96 * 3 + 4)


def test_memory_does_not_grow_with_the_set() -> None:
    "Filling and reading 20,000 pictures (176 MiB) adds next to nothing to the process's memory"
    store, picture = PictureStore((32, 96, 3)), np.zeros((32, 96, 3), np.uint8)
    store.put(0, picture)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(20_000):
        picture[:] = i % 256
        store.put(i, picture)
    assert all(int(store.get(i)[0, 0, 0]) == i % 256 for i in range(20_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
