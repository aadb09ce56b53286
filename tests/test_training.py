"Whole stages: what is trained, what is drawn, who scores"

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TINY, refused, run

from lp_asrn.config import (
    Config,
    EmbedderConfig,
    HardMiningConfig,
    MiningStageConfig,
    ModelConfig,
    RecognizerConfig,
    TrainingConfig,
)
from lp_asrn.evaluation import judges
from lp_asrn.models.model_set import ModelSet, load_models, load_tensors
from lp_asrn.plates.datasets import PlateDataset
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import RenderedPlates
from lp_asrn.training.checkpoint import Training
from lp_asrn.training.stages import STAGES, Validation, ValidationPlates
from lp_asrn.training.trainer import run_stage

FOLDERS = ["stage0", "stage1_warmup", "stage2_lcofl", "stage3_finetune", "stage4_hard_mining"]


@pytest.mark.parametrize("before, after", list(zip(FOLDERS, FOLDERS[1:])))
def test_each_parameter_of_the_generator_learns_in_each_stage(before, after, trained):
    old = load_models(trained / before / "best.safetensors")[0].generator
    new = load_tensors(trained / after / "last.safetensors")[0]  # the best epoch of a stage may be its start
    still = [name for name, a in old.named_parameters() if torch.equal(a, new.get(f"generator.{name}", a))]
    assert not still


def test_stage_4_remembers_the_plates_it_drew(trained):
    note = load_tensors(trained / "stage4_hard_mining" / "last.safetensors")[1]
    assert 20 < len(note["miner"]["accuracy"]) <= 64
    for stage in FOLDERS[:-1]:
        assert load_tensors(trained / stage / "last.safetensors")[1]["miner"] is None


def test_the_engine_draws_by_the_weights_of_the_miner(tmp_path):
    "Known accuracies in, chi-square of the plates that reach the objective"
    tiny = ModelConfig(
        num_channels=8, growth_channels=8, num_rrdb_blocks=1, dense_blocks_per_rrdb=1, dense_layers=2,
        attention_channels=8, use_enhanced_attention=False,
        recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16), embedder=EmbedderConfig(channels=[8, 8, 8]),
    )  # fmt: skip
    dataset = PlateDataset(RenderedPlates("train", 8, ["brazilian"]), get_severity("clean"))
    ids = [dataset.source.draw(i).id for i in range(8)]
    drawn, objective = [], STAGES["stage4"].objective

    def forward(models, batch, weights):
        drawn.extend(batch.id)
        return objective.forward(models, batch, weights)

    stage = replace(
        STAGES["stage4"], tag="toy", objective=replace(objective, forward=forward), refines=False,
        validate=lambda models, plates: Validation(0.0, {}), save=lambda path, models, **note: None,
    )  # fmt: skip
    config = Config(model=tiny, training=TrainingConfig(batch_size=8, precision="fp32"))
    mining = HardMiningConfig(hard_share_start=0.9, hard_share_end=0.9, ema=1.0)  # nothing is learnt on the way
    config.progressive_training.stage4 = MiningStageConfig(epochs=50, patience=50, hard_mining=mining)
    training = Training(stage, ModelSet.build(tiny), config, dataset, ValidationPlates([], precision="fp32"))
    training.miner.update(ids, np.linspace(0, 1, 8))
    expected = training.miner.chances(ids, 0)
    run_stage(training, tmp_path)
    counts = np.array([drawn.count(i) for i in ids])
    chi_square = ((counts - 400 * expected) ** 2 / (400 * expected)).sum()
    assert counts.sum() == 400 and chi_square < 24.3  # 0.1 % of chances, 7 degrees of freedom
    assert ((counts - 50) ** 2 / 50).sum() > 100, "the weights are far from uniform"


def test_no_scores_without_a_trained_judge(checkpoint, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(judges.load_judge, "__defaults__", (tmp_path / "judge.safetensors",))
    refused(
        run("evaluate", "--checkpoint", checkpoint, "--num", 4, "--save-dir", tmp_path / "scores"), "no trained judge"
    )
    for before in ("stage0", "lr_reader"):
        shutil.copytree(trained / before, tmp_path / "run" / before)
    words = ("--debug", "--stage", 1, "--no-tensorboard", "--save-dir", tmp_path / "run", *TINY)
    refused(run("train", *words), "no trained judge")
