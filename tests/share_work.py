"What one of several processes makes of its share: gradients of every objective, validations (for test_processes.py)"

import sys
from pathlib import Path

import torch

from lp_asrn.config import EmbedderConfig, LossConfig, ModelConfig, RecognizerConfig
from lp_asrn.evaluation.judges import Judge, JudgeAlone, load_judge
from lp_asrn.models.device import add_up, connected, gather, gather_list, is_main, rank, world_size
from lp_asrn.models.model_set import ModelSet
from lp_asrn.models.weights import save_tensors
from lp_asrn.plates.batch import PlateBatch
from lp_asrn.plates.datasets import Loader, PlateDataset, in_order
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import RenderedPlates
from lp_asrn.training.draws import BatchOrder
from lp_asrn.training.objectives import (
    LossWeights,
    guide_objective,
    judge_objective,
    lr_reader_objective,
    ocr_objective,
)
from lp_asrn.training.sr_objectives import joint_objective, lcofl_objective, pixel_objective
from lp_asrn.training.validation import (
    ValidationPlates,
    validate_generator,
    validate_guide,
    validate_judge,
    validate_on_lr,
    validate_recognizer,
)

LAYOUTS = ["brazilian", "argentina-old"]  # seven and six characters: shares have other denominators
OBJECTIVES = dict(
    ocr=ocr_objective,
    guide=guide_objective,
    lr_reader=lr_reader_objective,
    pixel=pixel_objective,
    lcofl=lcofl_objective,
    joint=joint_objective,
)


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


def terms_of(objective, models, batch: PlateBatch, weights: LossWeights):
    "As the trainer does it: what is made is gathered, then the loss is taken"
    made = objective.forward(models, batch, weights)
    return objective.loss({name: gather(x) for name, x in made.items()}, weights)


def own_batch() -> PlateBatch:
    "This process's share of the first twelve plates; five of them are registered"
    dataset = PlateDataset(
        RenderedPlates("train", 12, LAYOUTS), get_severity("medium"), soften=True, hard_negatives=True, regions=True
    )
    batch = next(iter(Loader(dataset, BatchOrder(12, 12, 0))))
    batch.registered[:] = torch.tensor([i in {dataset.source.draw(k).id for k in range(5)} for i in batch.id])
    return batch


@torch.backends.mkldnn.flags(
    enabled=False
)  # its sums of a bias's gradient are rounded more coarsely: 2e-5 of the gradient
def work(path: Path) -> None:
    "Write gradients and scores to a file"
    batch, out = own_batch(), {}
    for name, objective in OBJECTIVES.items():
        models = tiny_models()
        terms = terms_of(objective, models, batch, LossWeights(LossConfig(change=0), embed=0.3))
        terms.loss.backward()
        together = torch.nn.ModuleDict(models.modules())
        add_up(together.parameters())
        out[f"loss.{name}"] = terms.loss.detach()
        out |= {f"{name}.{n}": p.grad for n, p in together.named_parameters() if p.grad is not None}
        out |= {f"{k}.{name}": v.nan_to_num(-1) for k, v in terms.draws.items()}  # NaN: those that the guide read
    torch.manual_seed(1)
    judge = Judge()
    terms_of(judge_objective, JudgeAlone(judge), batch, LossWeights(LossConfig())).loss.backward()
    add_up(judge.parameters())
    out |= {f"judge.{n}": p.grad for n, p in judge.named_parameters()}
    val = PlateDataset(RenderedPlates("val", 25, LAYOUTS), get_severity("medium"))
    val = list(in_order(val, 10, share=lambda batches: batches[rank() :: world_size()]))
    models, plates = tiny_models().eval(), ValidationPlates(val, precision="fp32")
    found = {
        "generator": validate_generator(models, plates),
        "recognizer": validate_recognizer(models, plates),
        "guide": validate_guide(models, plates),
        "lr_reader": validate_on_lr(models, plates, "lr_reader"),
        "judge": validate_judge(JudgeAlone(load_judge()[0]), plates),
    }
    out |= {
        f"val.{k}.{name}": torch.tensor(v, dtype=torch.float64)
        for k, f in found.items()
        for name, v in f.scalars.items()
    }
    out["val.counted"] = found["generator"].confusion.clone()
    ids = gather_list(batch.id)
    if is_main():
        save_tensors(path, out, {"kind": "share", "ids": ids})


if __name__ == "__main__":
    with connected("cpu"):
        work(Path(sys.argv[1]))
