"Whole stages: what is trained, what is drawn, who scores"

import contextlib
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import FEW, TINY, Terminal, quiet_port, refused, run

from lp_asrn.config import (
    Config,
    EmbedderConfig,
    HardMiningConfig,
    MiningStageConfig,
    ModelConfig,
    RecognizerConfig,
    TrainingConfig,
    TrunkConfig,
)
from lp_asrn.evaluation import judges
from lp_asrn.models.model_set import ModelSet, changed, load_models, save_models
from lp_asrn.models.weights import load_tensors
from lp_asrn.plates.datasets import PlateDataset
from lp_asrn.plates.degrade import get_severity
from lp_asrn.plates.sources import RenderedPlates
from lp_asrn.settings import load_config
from lp_asrn.tools.cli import main
from lp_asrn.training import calibrate, record, step
from lp_asrn.training.checkpoint import Training
from lp_asrn.training.draws import inclusion, weights_of
from lp_asrn.training.run import Run, steps_of
from lp_asrn.training.stages import STAGES
from lp_asrn.training.trainer import run_stage
from lp_asrn.training.validation import Validation, ValidationPlates

FOLDERS = ["stage0", "stage1_warmup", "stage2_lcofl", "stage3_finetune", "stage4_hard_mining"]


@pytest.mark.parametrize("before, after", list(zip(FOLDERS, FOLDERS[1:])))
def test_each_parameter_of_the_generator_learns_in_each_stage(before, after, trained):
    old = load_models(trained / before / "best.safetensors")[0].generator
    new = load_tensors(trained / after / "last.safetensors")[0]  # the best epoch of a stage may be its start
    still = [name for name, a in old.named_parameters() if torch.equal(a, new.get(f"generator.{name}", a))]
    assert not still


def test_draws_are_remembered_from_stage_2_on(trained):
    known = [
        {*map(tuple, load_tensors(trained / s / "last.safetensors", "miner.known")[0]["miner.known"].tolist())}
        for s in FOLDERS[2:]
    ]
    assert known[0] and known[0] < known[1] < known[2], "one memory, and no draw is shown twice"
    for stage in FOLDERS[:2]:
        assert not load_tensors(trained / stage / "last.safetensors", "miner.")[0]


def test_the_engine_draws_by_the_scores_of_the_pool(tmp_path, monkeypatch):
    "Known scores in, chi-square of the plates that reach the objective"
    tiny = ModelConfig(
        num_channels=8, growth_channels=8, num_rrdb_blocks=1, dense_blocks_per_rrdb=1, dense_layers=2,
        attention_channels=8, use_enhanced_attention=False,
        recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16), embedder=EmbedderConfig(channels=[8, 8, 8]),
    )  # fmt: skip
    dataset = PlateDataset(RenderedPlates("train", 8, ["brazilian"]), get_severity("clean"))
    texts = [dataset.source.draw(i).text for i in range(8)]
    drawn, objective, scores = [], STAGES["stage4"].objective, torch.linspace(0, 2, 8)

    def forward(models, batch, weights):
        drawn.extend(batch.texts)
        return objective.forward(models, batch, weights)

    def score(models, pool, how):
        found = scores[[texts.index(t) for t in pool.texts]]
        return found, found < 1

    monkeypatch.setattr(step, "score_draws", score)
    stage = replace(
        STAGES["stage4"], tag="toy", objective=replace(objective, forward=forward), refines=False,
        validate=lambda models, plates: Validation(0.0, {}), save=lambda path, models, **note: None,
    )  # fmt: skip
    config = Config(model=tiny, training=TrainingConfig(batch_size=8, precision="fp32"))
    mining = HardMiningConfig(hard_share_start=0.9, hard_share_end=0.9, remembered=0)
    config.progressive_training.stage4 = MiningStageConfig(epochs=50, patience=50, hard_mining=mining)
    training = Training(stage, ModelSet.build(tiny), config, dataset, ValidationPlates([], precision="fp32"))
    run_stage(training, tmp_path)
    expected = 3 * inclusion(weights_of(scores.repeat(3), 0.9, mining.difficulty_alpha), 8)[:8].numpy()
    counts = np.array([drawn.count(t) for t in texts])
    chi_square = ((counts - 50 * expected) ** 2 / (50 * expected)).sum()
    assert counts.sum() == 400 and chi_square < 24.3  # 0.1 % of chances, 7 degrees of freedom
    assert ((counts - 50) ** 2 / 50).sum() > 100, "the chances are far from uniform"


def test_a_stage_that_goes_no_further_is_validated_at_its_end(tmp_path):
    "It was interrupted before its first validation, and is resumed with fewer epochs than it has seen"
    stage = replace(
        STAGES["stage0"], tag="toy", validate=lambda models, plates: Validation(0.5, {}),
        save=lambda path, models, **note: path.touch(),
    )  # fmt: skip
    readers = dict(recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16))
    config = Config(model=ModelConfig(**readers, embedder=EmbedderConfig(channels=[8, 8, 8])))
    dataset = PlateDataset(RenderedPlates("train", 8, ["brazilian"]), get_severity("clean"))
    training = Training(stage, ModelSet.build(config.model), config, dataset, ValidationPlates([]))
    training.position.epoch = training.settings.epochs + 1
    position = run_stage(training, tmp_path)
    assert (tmp_path / "best.safetensors").is_file() and position.best == 0.5 and position.done


def test_no_scores_without_a_trained_judge(checkpoint, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(judges.load_judge, "__defaults__", (tmp_path / "judge.safetensors",))
    refused(
        run("evaluate", "--checkpoint", checkpoint, "--num", 4, "--save-dir", tmp_path / "scores"), "no trained judge"
    )
    for before in ("stage0", "lr_reader"):
        shutil.copytree(trained / before, tmp_path / "run" / before)
    words = ("--debug", "--stage", 1, "--no-tensorboard", "--save-dir", tmp_path / "run", *TINY)
    refused(run("train", *words), "no trained judge")


# ---- what is seen while it lasts


def test_a_training_says_how_long_all_stages_take(trained_run, trained):
    "Each line of an epoch, until the last stage's last"
    lines = [line for line in trained_run[1].err.splitlines() if re.search(r" epoch [1-9]", line)]
    assert len(lines) >= 6 and all(re.search(r", all stages in about \d\d:\d\d$", line) for line in lines)
    assert lines[-1].endswith("00:00")
    there = Run(load_config("full", trained / "config.yaml"), trained)
    for tag in FOLDERS:
        note = load_tensors(trained / tag / "last.safetensors")[1]
        stage = next(s for s in STAGES.values() if s.tag == tag)
        assert steps_of(there, stage) == 64 // 16 * note["position"]["epoch"]


def test_stages_share_the_charts_of_tensorboard(tmp_path):
    "A stage is a run there, and no tag names it"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stage in ("0", "guide", "lr_reader"):
        assert (
            run("train", "--debug", "--stage", stage, "--save-dir", tmp_path, "--tb-port", quiet_port(), *TINY).code
            == 0
        )
    tags = {
        s: set(EventAccumulator(f"{tmp_path}/tensorboard/{s}").Reload().Tags()["scalars"])
        for s in ("stage0", "lr_reader")
    }
    assert {"val/word", "val/char"} <= tags["stage0"] & tags["lr_reader"]
    refused(run("train", "--debug", "--save-dir", tmp_path / "x", "--tb-host", "192.0.2.1", *TINY), "--tb-host")
    assert not (tmp_path / "x").exists()


def test_what_lasts_shows_its_progress_on_a_terminal(trained, tmp_path, monkeypatch):
    "And nothing of it in a pipe"
    for name, number in FEW.items():
        monkeypatch.setattr(calibrate, name, number)
    shutil.copytree(trained, tmp_path / "run")
    there = Run(load_config("full", tmp_path / "run" / "config.yaml"), tmp_path / "run", log=lambda line: None)
    words = ["evaluate", "--checkpoint", str(trained / "best.safetensors"), "--num", "3", "--save-dir"]
    for stream in (Terminal(), io.StringIO()):
        with contextlib.redirect_stderr(stream) as err, contextlib.redirect_stdout(io.StringIO()):
            record.conclude(there)
            main([*words, str(tmp_path / f"terminal{stream.isatty()}"), "--severity", "hard", "--frames", "2"])
        for part in ("calibrate:", "calibrate tracks:", "stage4:", "medium:", "hard:", "tracks hard:"):
            assert (part in err.getvalue()) == stream.isatty(), part


def test_runs_in_hidden_folders_are_nobodys(tmp_path):
    "Such as those of tests and caches"
    for place in ("mine", ".cache/a", "mine/.old/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").touch()
    listed = run("runs", tmp_path).out
    assert listed.count(str(tmp_path)) == 1 and f"{tmp_path}/mine " in listed
    assert f"{tmp_path}/.cache/a" in run("runs", tmp_path / ".cache").out, "unless one asks for them"


def test_a_second_reader_is_trained_after_all_stages(tmp_path):
    "By a command of its own; the others stay as they are"
    words = (*TINY, "--model.use-second-reader", "true", "--model.second-reader.channels", 8, 8, 16)
    words += ("--model.second-reader.hidden", 16, "--debug", "--no-tensorboard", "--save-dir", tmp_path)
    sizes = dict(num_channels=8, growth_channels=8, num_rrdb_blocks=1, dense_layers=2, prior_channels=8)
    sizes |= dict(recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16))
    sizes |= dict(embedder=EmbedderConfig(channels=[8, 8, 8]), use_second_reader=True)
    sizes |= dict(second_reader=TrunkConfig([8, 8, 16], 16, 2, 2))
    before = ModelSet.build(replace(load_config("demo").model, **sizes))
    save_models(tmp_path / "stage4_hard_mining" / "best.safetensors", before)
    outcome = run("train", "--stage", "second_reader", *words)
    assert outcome.code == 0, outcome.err
    assert changed(before, load_models(tmp_path / "best.safetensors")[0]) == {"second_reader"}


def test_a_teacher_teaches(tmp_path):
    "Readers by what it reads, the generator by what it draws; one that has other slots is refused"
    words = (*TINY, "--debug", "--no-tensorboard", "--training.teacher", "small", "--save-dir")
    outcome = run("train", *words, tmp_path / "taught", "--loss.lambda-teach", 1)
    assert outcome.code == 0, outcome.err
    same = run("train", *words, tmp_path / "alone", "--loss.lambda-teach", 0)
    assert same.code == 0, same.err
    a, b = (load_models(tmp_path / name / "best.safetensors")[0] for name in ("taught", "alone"))
    assert {"lr_reader", "generator"} <= changed(a, b) and "recognizer" not in changed(a, b)
    other = ("--model.recognizer.num-slots", 8)
    refused(run("train", *words, tmp_path / "other", *other), "small cannot teach", "slots")
