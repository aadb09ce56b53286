"A training killed again and again ends as if nothing had been"

import os
import random
import time

import torch
from helpers import TINY, run, start

from lp_asrn.models.weights import load_tensors
from lp_asrn.training.stages import parse_stages

KILLS = int(os.environ.get("LP_ASRN_KILLS", 3))  # the long form: LP_ASRN_KILLS=20 pytest tests/test_kill.py
QUICK = [
    "--data.num_train",
    48,
    "--data.num_val",
    8,
    "--data.num_test",
    8,
    "--batch-size",
    4,
    "--training.save_every",
    2,
]
EPOCHS = [w for s in parse_stages("all") for w in (f"--progressive_training.{s.key}.epochs", 2)]
WORDS = ["train", "--no-tensorboard", "--device", "cpu", *TINY, *QUICK, *EPOCHS]


def newest(folder) -> float:
    "When a state was last written"
    times = []
    for path in folder.glob("*/last.safetensors"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # just being replaced
            pass
    return max(times, default=0.0)


def test_killed_at_random_moments(tmp_path):
    whole, parts, seed = tmp_path / "whole", tmp_path / "parts", random.randrange(2**32)
    begun = time.monotonic()
    assert run(*WORDS, "--save-dir", whole).code == 0
    lasts = time.monotonic() - begun
    moment, killed, stages, resume = random.Random(seed), 0, set(), []
    while killed < KILLS:
        process, before, end = start(*WORDS, "--save-dir", parts, *resume), newest(parts), time.monotonic() + 300
        while newest(parts) == before and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.7 * lasts / KILLS))  # so that the kills reach into the late stages
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        killed, resume = killed + 1, ["--resume"]
        stages.add(max((p for p in parts.glob("*/last*.safetensors")), key=lambda p: p.stat().st_mtime).parent.name)
        for path in parts.rglob("*.safetensors"):
            if not path.name.startswith("."):
                load_tensors(path)  # raises if it is damaged
    print(f"seed {seed}: {killed} kills, in {', '.join(sorted(stages))}")
    assert killed >= min(KILLS, 3)
    final = run(*WORDS, "--save-dir", parts, "--resume")
    assert final.code == 0, final.err
    for path in [
        *(f"{s.tag}/{name}.safetensors" for s in parse_stages("all") for name in ("last", "best")),
        "best.safetensors",
    ]:
        want, got = load_tensors(whole / path)[0], load_tensors(parts / path)[0]
        assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want), (path, seed)
