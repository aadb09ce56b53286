"Pictures of a folder in a temporary file: shared by workers, gone in the end, and never in memory all at once"

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lp_asrn.plates.check import read_data
from lp_asrn.plates.datasets import Loader, PlateDataset
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import FilePlates, Plate, PlateStore, RenderedPlates

HOLDER = """
import numpy as np
from lp_asrn.plates.sources import Plate, PlateStore
store = PlateStore()
store.put(Plate("0", "ABC1234", "brazilian", np.zeros((32, 96, 3), np.uint8), np.zeros((4, 2))))
{end}
"""


@pytest.mark.parametrize("end", ["", "raise KeyboardInterrupt", "raise SystemExit(3)"])
def test_no_file_is_left(tmp_path: Path, end: str) -> None:
    "However a process ends that Python ends, its pictures are gone"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", HOLDER.format(end=end)], env=environment, stderr=subprocess.DEVNULL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["rendered", "folder"])
def test_workers_show_the_same_plates(kind: str, plates: Path) -> None:
    "Two loaders with two workers each, at the same time, and one without: the same pairs, in the second epoch too"
    make = {
        "rendered": lambda: RenderedPlates("train", 20, ["brazilian"], fresh=True, wide=True),
        "folder": lambda: FilePlates(read_data(plates), "train"),
    }[kind]
    keys = [[(epoch, i) for i in range(k, k + 5)] for epoch in (0, 1) for k in range(0, 20, 5)]

    def pairs(workers):
        return iter(
            Loader(
                PlateDataset(make(), get_severity("medium"), train=True, augment=True, unrectified=0.5),
                keys,
                num_workers=workers,
            )
        )

    for three in zip(pairs(0), pairs(2), pairs(2), strict=True):
        for name in ("hr", "lr", "crop", "native", "corners"):
            first, *others = (getattr(batch, name) for batch in three)
            assert all((first == other).all() for other in others), name
        assert len({tuple(batch.id) for batch in three}) == 1


def test_memory_does_not_grow_with_the_set() -> None:
    "Filling and reading 20,000 pictures (176 MiB) adds next to nothing to the process's memory"
    store, picture = PlateStore(), np.zeros((32, 96, 3), np.uint8)
    plate = Plate("0", "ABC1234", "brazilian", picture, np.zeros((4, 2)))
    store.put(plate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(1, 20_000):
        picture[:] = i % 256
        store.put(plate)
    assert all(int(store[i].picture[0, 0, 0]) == i % 256 for i in range(20_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
