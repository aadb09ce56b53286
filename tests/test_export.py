"lp_asrn export and the weights of the package: what a user types"

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from helpers import refused, run

from lp_asrn.config import DATA_DIR, ModelConfig, RecognizerConfig, TrunkConfig, UserError
from lp_asrn.models.folders import PRETRAINED
from lp_asrn.models.generator import Generator
from lp_asrn.models.model_set import ModelSet, save_models
from lp_asrn.reading.calibration import EXPERT, SECOND, calibration_note
from lp_asrn.reading.combine import DOUBTFUL
from lp_asrn.reading.decoding import Calibration
from lp_asrn.reading.export import export_onnx
from lp_asrn.reading.reader import Reader


@pytest.fixture(scope="module")
def graphs(checkpoint, shared):
    "A folder that `lp_asrn export` wrote"
    folder, outcome = shared("onnx", lambda folder: run("export", folder, "--checkpoint", checkpoint))
    assert "plates read alike" in outcome.out and "Warning" not in outcome.err, outcome
    return folder


def test_read_and_enhance_by_a_graph(graphs, checkpoint, picture, tmp_path):
    picture("in/small.png"), picture("in/large.jpg", 64, 192), picture("in/odd.png", 9, 61)
    both = [
        json.loads(run("read", tmp_path / "in", "--checkpoint", path, "--json").out) for path in (checkpoint, graphs)
    ]
    for a, b in zip(*both):
        assert all(
            a[key] == b[key] for key in ("file", "frames", "calibrated", "super_resolved")
        )  # of noise, texts may differ: PyTorch may compute in bf16 here
        either = min(a["doubt"], b["doubt"]) > DOUBTFUL - 0.1  # found, or the whole crop if that is read more surely
        assert abs(a["doubt"] - b["doubt"]) < 0.1 and (either or np.allclose(a["corners"], b["corners"], atol=0.5))
    assert run("enhance", tmp_path / "in", tmp_path / "out", "--checkpoint", graphs).code == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_second_reader_is_a_graph_of_its_own(tmp_path):
    "It decides here alone whatever is looked at again; without its graph none of the export is opened"
    torch.manual_seed(0)
    small = dict(num_channels=8, growth_channels=8, num_rrdb_blocks=1, dense_blocks_per_rrdb=1, attention_channels=8)
    small |= dict(recognizer=RecognizerConfig(channels=[8, 8, 16], hidden=16), prior_channels=8)
    second = TrunkConfig([8, 8, 16], 16, 2, 2)
    models = ModelSet.build(ModelConfig(**small, use_second_reader=True, second_reader=second)).eval()
    models.second_reader.classifier.weight.data.normal_()
    equal = Calibration.unfitted([EXPERT])
    own = {EXPERT: 0.0, SECOND: 1.0}
    fitted = {"lr": equal, "both": Calibration(own, own)}
    save_models(tmp_path / "best.safetensors", models, **calibration_note(fitted))
    export_onnx(models, tmp_path / "own", note=calibration_note(fitted))
    crops = [np.random.default_rng(k).integers(0, 256, (16, 48, 3), dtype=np.uint8) for k in range(5)]
    a, b = (Reader(tmp_path / name, "cpu", "fp32", rectify=False).read(crops) for name in ("best.safetensors", "own"))
    assert {r.looks for r in (*a, *b)} == {2} and [r.text for r in a] == [r.text for r in b]
    assert np.allclose([r.confidence for r in a], [r.confidence for r in b], atol=1e-3)
    (tmp_path / "own" / "second_reader.onnx").unlink()
    with pytest.raises(UserError, match="second_reader.onnx"):
        Reader(tmp_path / "own")


ALONE = """
import runpy, sys
from importlib.util import spec_from_loader

EXTRAS = sys.argv.pop(1).split(",")

class Refused:
    def find_spec(self, name, path=None, target=None):
        return spec_from_loader(name, self) if name in EXTRAS else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"no {spec.name}", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refused())
runpy.run_module("lp_asrn", run_name="__main__")
"""
EXTRAS = (
    "torch safetensors filelock rapidfuzz threadpoolctl jinja2 tensorboard matplotlib ipywidgets anywidget IPython onnx"
    " scipy"
)


def alone(*words, allowed=()):
    "A command where nothing of the extras is installed"
    refused = ",".join(set(EXTRAS.split()) - set(allowed))
    return subprocess.run([sys.executable, "-c", ALONE, refused, *map(str, words)], capture_output=True, text=True)


def test_reading_needs_no_extra(graphs, checkpoint, picture, tmp_path):
    "From the command to the text, its picture, evidence, and SR of a track; by those of the package, a second look"
    crop = picture("crop.png", 20, 50)

    def said(*words, **how):
        found = alone(*words, **how)
        assert not found.returncode, found.stderr
        return found.stdout

    drawn = "--evidence", tmp_path / "evidence"
    (found,) = json.loads(said("read", crop, "--json", "--checkpoint", graphs, *drawn, allowed=["matplotlib"]))
    (reading,) = Reader(checkpoint, "cpu", "fp32").read([crop])
    assert found["text"] == reading.text and abs(found["confidence"] - reading.confidence) < 1e-2
    said("enhance", crop, tmp_path / "sr.png", "--checkpoint", graphs)
    assert (tmp_path / "sr.png").is_file()
    track = shutil.copytree(DATA_DIR / "examples", tmp_path / "track", ignore=shutil.ignore_patterns("[!B-D]*"))
    said("enhance", "--track", track, tmp_path / "tracks")
    assert list((tmp_path / "tracks").iterdir())
    assert any(r["looks"] > 1 for r in json.loads(said("read", "--example", "--json")))
    assert "1 crop written" in said("crop", crop, tmp_path / "crops", "--box", "4,3,40,14")
    (tmp_path / "plates.txt").write_text("\n".join(p.stem for p in track.iterdir()))
    assert json.loads(said("match", track, "--list", tmp_path / "plates.txt", "--json"))
    (own := tmp_path / "own").mkdir()
    copies = [(shutil.copy(p, own / f"{k}{p.name}").name, p.stem) for p in track.iterdir() for k in range(50)]
    (own / "labels.csv").write_text("image_path,plate_text\n" + "".join(f"{n},{t}\n" for n, t in copies))
    assert f"on {len(copies)} crops" in said("calibrate", tmp_path / "own.json", "--data-root", own)
    assert json.loads(said("read", crop, "--json", "--checkpoint", tmp_path / "own.json"))


@pytest.mark.parametrize("words", ["train", "evaluate --checkpoint small", "bench", "read --example --device cuda"])
def test_what_needs_an_extra_says_so(words, tmp_path):
    found = alone(*words.split())
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1 and not found.stdout
    assert 'needs torch, which is not installed: pip install "lp_asrn[train]"' in found.stderr


def test_evidence_that_cannot_be_drawn_is_refused_at_once(tmp_path):
    found = alone("read", "--example", "--evidence", tmp_path / "evidence")
    assert found.returncode == 2 and "needs matplotlib" in found.stderr and not found.stdout


def test_graphs_say_what_they_are(graphs):
    note = json.loads((graphs / "config.json").read_text())
    assert {"lr", "tracks"} <= set(note["calibration"]) and note["kind"] == "models"
    for name in ("model.safetensors", "generator.onnx", "rectifier.onnx", "reader.onnx", "track.onnx"):
        assert hashlib.sha256((graphs / name).read_bytes()).hexdigest() == note["files"][name]


def test_mistakes_are_one_line(graphs, checkpoint, picture, tmp_path):
    before = (graphs / "reader.onnx").read_bytes()
    refused(run("export", graphs, "--checkpoint", checkpoint), "model.safetensors", "--overwrite")
    assert (graphs / "reader.onnx").read_bytes() == before
    refused(run("export", tmp_path / "x", "--checkpoint", tmp_path / "none.safetensors"), "no such checkpoint")
    refused(
        run("export", tmp_path / "x", "--checkpoint", tmp_path / "mine.json"), "is a calibration", "name the weights"
    )
    (tmp_path / "file").write_text("a file")
    refused(run("export", tmp_path / "file", "--checkpoint", checkpoint), "not a folder")
    crop = picture("crop.png")
    few = shutil.copytree(graphs, tmp_path / "few")
    beside = few / "rectifier.onnx"
    shutil.copy(graphs / "generator.onnx", beside)
    refused(run("read", crop, "--checkpoint", few), beside.name, "not the one")
    beside.unlink()
    refused(run("read", crop, "--checkpoint", few), beside.name, "no such file", "export")
    (few / "config.json").unlink()
    refused(run("read", crop, "--checkpoint", few), "config.json", "export")
    for words in (f"read {crop}", "bench", "evaluate --num 4", f"export {tmp_path / 'x'}"):
        refused(run(*words.split(), "--checkpoint", graphs / "reader.onnx"), "reader.onnx is a graph", str(graphs))
    words = f"train --save-dir {tmp_path / 'x'}".split()
    refused(run(*words, "--training.start-from", graphs / "reader.onnx"), "reader.onnx is a graph", str(graphs))


@pytest.mark.parametrize("what", ["ir_version", "opset"])
def test_a_graph_that_is_too_new(graphs, picture, tmp_path, what):
    shutil.copytree(graphs, tmp_path / "new")
    model = onnx.load(path := tmp_path / "new" / "reader.onnx", load_external_data=False)
    if what == "opset":
        model.opset_import[0].version = 99
    else:
        model.ir_version = 99
    words = "read", picture("crop.png"), "--checkpoint", path.parent
    for content, said in ((model.SerializeToString(), "is too new for onnxruntime"), (b"x", "is not an ONNX graph")):
        path.write_bytes(content)
        refused(run(*words), "reader.onnx is not the one that config.json beside it names")
        note = json.loads((beside := path.with_name("config.json")).read_text())
        note["files"][path.name] = hashlib.sha256(content).hexdigest()
        beside.write_text(json.dumps(note))  # as an export by a newer version would
        refused(run(*words), f"reader.onnx {said}")


@pytest.mark.parametrize("name", PRETRAINED)
def test_weights_of_the_package_read_its_examples(name):
    assert sum(p.stat().st_size for p in PRETRAINED[name].iterdir()) < 25e6
    config = ModelSet.from_pretrained(name).config
    assert config.use_second_reader == (name != "tiny")
    assert all(p.requires_grad for p in Generator.from_pretrained(name).parameters()), "they can be trained on"
    outcome = run("read", "--example", "--json", "--checkpoint", name)
    assert outcome.code == 0, outcome
    found = json.loads(outcome.out)
    assert len(found) >= 4 and all(r["calibrated"] for r in found)
    assert sum(r["text"] == r["file"].split(".")[0] for r in found) >= len(found) / 2, (
        "they are named by their true texts"
    )
    refused(run("read"), "--example")
    refused(run("read", "crop.png", "--example"), "not both")


def test_a_card_gets_what_a_bench_measured(graphs, tmp_path, monkeypatch):
    for place in ("lp_asrn.evaluation.speed.median_ms", "lp_asrn.tools.bench.median_ms"):
        monkeypatch.setattr(place, lambda run, *how: (run(), 2.0)[1])
    own, speed = shutil.copytree(graphs, tmp_path / "own"), tmp_path / "speed.json"
    outcome = run("bench", "--checkpoint", own, "--save", speed, "--device", "cpu", "--presets")
    assert outcome.code == 0 and "CPU, graphs" in outcome.out and "from cold" in outcome.out, outcome
    refused(run("bench", "--checkpoint", own, "--save", speed), "speed.json", "another file")
    refused(run("bench", "deform", "--save", tmp_path / "x"), "--save")
    card = run("models", own, "--figures", speed)
    assert card.code == 0 and "| read (CPU, graphs) | 0.25 | 2 | 2 |" in card.out
    assert run("models", own).out == card.out and (own / "README.md").read_text().count("from cold") == 1
    refused(run("models", "small", "--figures", speed), "other weights", "lp_asrn bench")
    refused(run("models", own, "--figures", tmp_path / "none.json"), "none.json")
    (tmp_path / "x.json").write_text("{}")
    refused(run("models", own, "--figures", tmp_path / "x.json"), "x.json")
