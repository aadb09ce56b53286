"What one of several processes makes of its share: gradients of every objective, and validations (run by test_processes.py)"

import sys
from pathlib import Path

import torch

from lp_asrn.config import EmbedderConfig, LossConfig, ModelConfig, RecognizerConfig
from lp_asrn.evaluation.judges import Judge, load_judge
from lp_asrn.models.model_set import ModelSet, save_tensors
from lp_asrn.plates.datasets import PlateBatch, PlateDataset, in_order, loader
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import RenderedPlates
from lp_asrn.training import processes
from lp_asrn.training.miner import BatchOrder
from lp_asrn.training.objectives import (
    LossWeights,
    joint_objective,
    judge_objective,
    lcofl_objective,
    lr_reader_objective,
    ocr_objective,
    pixel_objective,
)
from lp_asrn.training.validation import validate_direct, validate_generator, validate_judge, validate_readers

LAYOUTS = ["brazilian", "argentina-old"]  # seven and six characters: shares have other denominators
OBJECTIVES = (ocr_objective, lr_reader_objective, pixel_objective, lcofl_objective, joint_objective)


def tiny_models() -> ModelSet:
    "The same in each process"
    torch.manual_seed(0)
    sizes = dict(num_channels=8, growth_channels=8, num_rrdb_blocks=1, dense_layers=2, prior_channels=8)
    return ModelSet.build(
        ModelConfig(
            **sizes,
            recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16),
            embedder=EmbedderConfig(channels=[8, 8, 8]),
        )
    )


def own_batch() -> PlateBatch:
    "This process's share of the first twelve plates; five of them are registered"
    dataset = PlateDataset(
        RenderedPlates("train", 12, LAYOUTS), get_severity("medium"), soften=True, hard_negatives=True
    )
    batch = next(iter(loader(dataset, BatchOrder(12, 12, 0))))
    batch.registered[:] = torch.tensor([i in {dataset.source.draw(k).id for k in range(5)} for i in batch.id])
    return batch


@torch.backends.mkldnn.flags(
    enabled=False
)  # its sums of a bias's gradient are rounded more coarsely: 2e-5 of the gradient
def work(path: Path) -> None:
    "Write gradients and scores to a file"
    batch, out = own_batch(), {}
    for objective in OBJECTIVES:
        models = tiny_models()
        terms = objective(models, batch, LossWeights(LossConfig(), embed=0.3))
        terms.loss.backward()
        together = torch.nn.ModuleDict(models.modules())
        processes.add_up(together.parameters())
        out[f"loss.{objective.__name__}"] = terms.loss.detach()
        out |= {f"{objective.__name__}.{n}": p.grad for n, p in together.named_parameters() if p.grad is not None}
        if terms.accuracy is not None:
            out[f"accuracy.{objective.__name__}"] = terms.accuracy
    torch.manual_seed(1)
    judge = Judge()
    judge_objective(judge, batch, LossWeights(LossConfig())).loss.backward()
    processes.add_up(judge.parameters())
    out |= {f"judge.{n}": p.grad for n, p in judge.named_parameters()}
    val = list(
        in_order(PlateDataset(RenderedPlates("val", 25, LAYOUTS), get_severity("medium")), 10, share=processes.share)
    )
    models, cpu = tiny_models().eval(), torch.device("cpu")
    found = {
        "generator": validate_generator(models, load_judge()[0], val, cpu, "fp32"),
        "readers": validate_readers(models, val, cpu, "fp32"),
        "lr_reader": validate_direct(models, val, cpu, "fp32"),
        "judge": validate_judge(load_judge()[0], val, cpu, "fp32"),
    }
    out |= {
        f"val.{k}.{name}": torch.tensor(v, dtype=torch.float64)
        for k, f in found.items()
        for name, v in f.scalars.items()
    }
    out["val.counted"] = found["generator"].confusion.clone()
    ids = processes.gather_list(batch.id)
    if processes.is_main():
        save_tensors(path, out, {"kind": "share", "ids": ids})


if __name__ == "__main__":
    with processes.connected("cpu"):
        work(Path(sys.argv[1]))
