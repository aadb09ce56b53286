"Processes that prepare plates do not change what is learnt"

import torch
from helpers import TINY, run

from lp_asrn.models.model_set import load_tensors


def test_any_number_of_workers_gives_the_same_weights(tmp_path):
    def train(workers: int) -> dict:
        folder = tmp_path / str(workers)
        words = [
            "train",
            "--debug",
            "--stage",
            0,
            "--no-tensorboard",
            "--save-dir",
            folder,
            *TINY,
            "--training.num_workers",
            workers,
        ]
        outcome = run(*words)
        assert outcome.code == 0, outcome.err
        return load_tensors(folder / "stage0" / "last.safetensors")[0]

    alone, helped = train(0), train(2)
    assert alone.keys() == helped.keys() and all(torch.equal(alone[k], helped[k]) for k in alone)
