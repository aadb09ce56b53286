"The verbs as a user types them"

import csv
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import cv2
import pytest
from filelock import FileLock
from helpers import ROOT, TINY, Outcome, environment, refused, run, run_process

from lp_asrn.config import DATA_DIR
from lp_asrn.models.model_set import changed, load_models
from lp_asrn.models.weights import load_tensors, save_tensors
from lp_asrn.plates.folder import write_table
from lp_asrn.settings import load_config, presets
from lp_asrn.tools.variants import VARIANTS

# ---- help

OPTIONS = {
    "train": "preset stage config data-root save-dir resume overwrite device batch-size "
    "tb-port tb-host no-tensorboard debug "
    "model.num-rrdb-blocks model.use-dcnv4 loss.lambda-embed progressive-training.stage4.hard-mining.difficulty-alpha",
    "evaluate": "checkpoint data-root severity judge draws num split frames layouts save-dir device",
    "enhance": "track overwrite checkpoint no-rectify device",
    "read": "example checkpoint track layouts alternatives max-error json csv evidence submission device",
    "crop": "corners box table detector exact frame frames margin overwrite checkpoint device",
    "match": "list absent top checkpoint no-rectify track layouts json csv evidence overwrite device",
    "calibrate": "data-root checkpoint no-rectify overwrite device",
    "export": "checkpoint half int8 overwrite",
    "synth": "n severity layouts frames seed",
    "runs": "help",
    "runs pack": "round overwrite",
    "runs unpack": "overwrite",
    "ablate": "variants seeds photographs save-dir results device table",
    "models": "figures",
    "bench": "checkpoint save presets size groups device",
}


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_names_each_option(verb):
    outcome = run(*verb.split(), "--help")
    shown = outcome.out.replace("_", "-")
    assert outcome.code == 0 and not outcome.err
    assert not [o for o in OPTIONS[verb].split() if f"--{o}" not in shown]


def test_help_of_the_command_names_the_verbs():
    for args in ((), ("--help",)):
        outcome = run(*args)
        assert outcome.code == 0 and all(verb in outcome.out for verb in OPTIONS)
    assert run("--version").out.strip()


# ---- runs pack, runs unpack


def test_a_run_is_packed_and_goes_on_elsewhere(trained, tmp_path):
    here, packed, there = (tmp_path / name for name in ("here", "packed", "there"))
    shutil.copytree(trained, here)
    last = here / "stage4_hard_mining" / "last.safetensors"
    tensors, note = load_tensors(last)
    note["position"] |= {"done": False}  # as if it had been killed just before the end
    save_tensors(last, tensors, note)
    done = run("runs", "pack", here, packed)
    assert done.code == 0 and "it goes on to the bit" in done.out, done
    assert {p.name for p in packed.iterdir()} == {"manifest.json", "part-1.bin"}
    refused(run("runs", "pack", here, packed), "--overwrite")
    refused(run("runs", "unpack", packed, here), "is not empty", "--overwrite")
    said = run("runs", "pack", here, packed, "--round", "--overwrite").out
    assert "rounded to bf16" in said and "not to the bit" in said
    said = run("runs", "unpack", packed, there).out
    assert "not to the bit" in said and said.endswith(f"lp_asrn train --save-dir {there} --resume\n")
    on = run("train", "--no-tensorboard", "--save-dir", there, "--resume", "--stage", 4)
    assert on.code == 0 and "stage4_hard_mining: the optimiser's moments were rounded" in on.out, on
    for name in ("best.safetensors", "stage0/best.safetensors", "stage4_hard_mining/best.safetensors"):
        assert not changed(load_models(here / name)[0], load_models(there / name)[0]), name
    with FileLock(here / ".lock"):
        refused(run("runs", "pack", here, tmp_path / "again"), "is in use")
    (packed / "part-1.bin").write_bytes((packed / "part-1.bin").read_bytes()[:-1])
    refused(run("runs", "unpack", packed, tmp_path / "never"), "part-1.bin is damaged")
    refused(run("runs", "pack", packed, tmp_path / "never"), "no state of a training")
    assert not (tmp_path / "never").exists() and not (tmp_path / "again").exists()


# ---- ablate


def result(folder, name, seed, digits):
    "A text file as a run leaves it"
    folder.mkdir(exist_ok=True)
    read = {
        f"rendered/{severity}/{reader}": digits
        for severity in ("medium", "hard", "surveillance")
        for reader in ("judge", "rapidocr")
    }
    (folder / f"{name}-{seed}.json").write_text(json.dumps({"variant": name, "seed": seed, "read": read}))


def test_ablate_makes_its_tables_from_text_files(tmp_path):
    for seed in range(3):
        result(tmp_path / "r", "full", seed, "1" * 90 + "0" * 10)
        result(tmp_path / "r", "no_ec", seed, "1" * 80 + "0" * 20)
    table = run("ablate", "--table", "--results", tmp_path / "r")
    assert table.code == 0 and "90.0" in table.out and "+10.0 (" in table.out
    names = "no_ec", "no_lp"  # of the first three seeds are there
    left = run("ablate", "--table", "--results", tmp_path / "r", "--variants", *names)
    wanted = [(n, s) for s in range(9) for n in names if (n == "no_lp" or s > 2) and s < VARIANTS[n].seeds]
    found = [line.split()[1:4] for line in left.out.splitlines() if line.startswith("left:")]
    assert left.code == 0 and found == [[n, "seed", str(s)] for n, s in wanted] and len(wanted) >= 3


def test_ablate_refuses(tmp_path):
    refused(run("ablate", "--variants", "ful"), "ful", "full")
    refused(run("ablate", "--table", "--results", tmp_path / "none"), "none", "lp_asrn ablate")
    refused(run("ablate", "--seeds", 0), "--seeds")
    refused(run("ablate", "--device", "cuda:77"), "cuda:77")
    result(tmp_path / "rival", "edsr", 0, "1")
    (tmp_path / "rival" / "full-0.json").write_text("half a fi")
    refused(
        run("ablate", "--variants", "no_ec", "--results", tmp_path / "rival", "--save-dir", tmp_path / "s"),
        "full-0.json",
    )
    refused(
        run("ablate", "--photographs", tmp_path / "gone", "--save-dir", tmp_path / "s", "--results", tmp_path / "r"),
        "gone",
    )
    assert not (tmp_path / "s").exists()


# ---- what a user gets wrong


@pytest.fixture
def text_png(tmp_path):
    path = tmp_path / "notes" / "note.png"
    path.parent.mkdir()
    path.write_text("this is no picture")
    return path


@pytest.fixture
def table(tmp_path, picture):
    "Writes a data folder with one picture: table(header, line) -> folder"

    def write(header: str, line: str):
        picture("data/a.png", 32, 96)
        (tmp_path / "data" / "labels.csv").write_text(f"{header}\n{line}\n")
        return tmp_path / "data"

    return write


def test_missing_input(tmp_path, checkpoint):
    gone = tmp_path / "gone.png"
    refused(run("read", gone, "--checkpoint", checkpoint), str(gone))
    refused(run("enhance", gone, tmp_path / "out", "--checkpoint", checkpoint), str(gone))


def test_folder_without_pictures(tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    refused(run("read", tmp_path / "empty", "--checkpoint", checkpoint), "no pictures", "empty")
    refused(run("enhance", tmp_path / "empty", tmp_path / "out", "--checkpoint", checkpoint), "no pictures", "empty")


def test_text_named_png(tmp_path, text_png, checkpoint):
    refused(run("read", text_png, "--checkpoint", checkpoint), "not a picture", "note.png")
    refused(run("enhance", text_png, tmp_path / "out", "--checkpoint", checkpoint), "not a picture", "note.png")


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_bad_data_folder(verb, tmp_path, table, checkpoint):
    def attempt(folder):
        more = (
            ["--checkpoint", checkpoint]
            if verb == "evaluate"
            else ["--no-tensorboard", "--save-dir", tmp_path / "run", *TINY]
        )
        return run(verb, "--data-root", folder, *more)

    refused(attempt(tmp_path / "gone"), "no such folder", "gone")
    (tmp_path / "bare").mkdir()
    refused(attempt(tmp_path / "bare"), "labels.csv")
    refused(attempt(table("image_path,text", "a.png,ABC1234")), "plate_text")
    refused(attempt(table("", "")), "image_path")
    for character in "?éß":  # upper() makes two letters of ß
        refused(attempt(table("image_path,plate_text", f"a.png,ABC12{character}4")), character, "line 2")
    refused(attempt(table("image_path,plate_text", "b.png,ABC1234")), "b.png")
    refused(attempt(table("image_path,plate_text,split", "a.png,ABC1234,exam")), "exam")
    assert not (tmp_path / "run").exists(), "a refused command leaves nothing behind"


def test_bad_checkpoint(tmp_path, trained, checkpoint, picture):
    crop = picture("crop.png")
    refused(run("read", crop, "--checkpoint", tmp_path / "gone.safetensors"), "no such checkpoint")
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors here")
    refused(run("evaluate", "--checkpoint", text), "not a checkpoint")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    refused(run("enhance", crop, tmp_path / "out", "--checkpoint", cut), "damaged")
    refused(run("evaluate", "--checkpoint", DATA_DIR / "judge.safetensors"), "judge")
    refused(run("evaluate", "--checkpoint", trained / "stage4_hard_mining" / "last.safetensors"), "training")


def test_checkpoint_of_another_architecture(tmp_path, trained, checkpoint):
    tensors, note = load_tensors(checkpoint)
    note["model"]["num_channels"] = 16
    save_tensors(tmp_path / "other.safetensors", tensors, note)
    refused(run("evaluate", "--checkpoint", tmp_path / "other.safetensors"), "another architecture")
    shutil.copytree(trained / "stage1_warmup", tmp_path / "run" / "stage1_warmup")
    wider = [*TINY, "--model.num_channels", 16]
    refused(
        run("train", "--stage", 2, "--no-tensorboard", "--save-dir", tmp_path / "run", *wider), "another architecture"
    )
    for stage in ("all", "2"):
        words = ["--stage", stage, "--no-tensorboard", "--save-dir", tmp_path / "new", *TINY, "--training.start-from"]
        refused(run("train", *words, "small"), "another architecture", "--preset small")
        refused(run("train", *words, tmp_path / "gone.safetensors"), "no such checkpoint")
    assert not (tmp_path / "new").exists()


def test_going_on_from_a_file_that_the_run_would_replace(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "run")
    own = tmp_path / "run" / "stage4_hard_mining" / "best.safetensors"
    refused(
        run(
            "train",
            "--overwrite",
            "--no-tensorboard",
            "--save-dir",
            tmp_path / "run",
            *TINY,
            "--training.start-from",
            own,
        ),
        "start_from",
        "save dir",
    )
    assert own.is_file()


def test_a_stage_that_others_were_built_on_is_not_started_unasked(tmp_path, trained):
    shutil.copytree(trained / "stage2_lcofl", tmp_path / "stage2_lcofl")
    refused(
        run("train", "--stage", 0, "--no-tensorboard", "--save-dir", tmp_path, *TINY), "stage2_lcofl", "--overwrite"
    )


@pytest.mark.parametrize(
    "words, fragments",
    [
        ("--stage fintune", ("finetune",)),
        ("--model.scale 3", ("model.scale", "2 or 4")),
        ("--data.severity meduim", ("meduim", "medium")),
        ("--data.layouts french", ("french",)),
        ("--device cuda:77", ("cuda:77",)),
        ("--device abacus", ("abacus",)),
        ("--device meta", ("meta",)),
        ("--batch-size 0", ("batch_size",)),
        ("--batch-size", ("batch",)),
        ("--training.num_workers -1", ("training.num_workers",)),
        ("--training.seed -1", ("training.seed",)),
        ("--progressive_training.stage2.epochs 0", ("progressive_training.stage2.epochs",)),
        ("--progressive_training.stage0.learning_rate -1", ("progressive_training.stage0.learning_rate",)),
        ("--model.recognizer.channels 8 8", ("model.recognizer.channels",)),
        ("--model.deform_groups 0", ("model.deform_groups",)),
        ("--tb-port 70000", ("--tb-port",)),
        ("--resume --overwrite", ("--resume", "--overwrite")),
    ],
)
def test_bad_train_options(words, fragments, tmp_path):
    refused(run("train", "--no-tensorboard", "--save-dir", tmp_path / "run", *TINY, *words.split()), *fragments)
    assert not (tmp_path / "run").exists(), "nothing is left behind that the next command would take up"


@pytest.mark.parametrize(
    "words, fragments",
    [
        ("--severity medium,meduim", ("meduim", "medium")),
        ("--severity ,", ("severity",)),
        ("--draws 0", ("draws",)),
        ("--sevrity hard", ("sevrity", "severity")),
        ("--device cuda:77", ("cuda:77",)),
    ],
)
def test_bad_evaluate_options(words, fragments, checkpoint):
    refused(run("evaluate", "--checkpoint", checkpoint, *words.split()), *fragments)


@pytest.mark.parametrize(
    "words", ["read x.png --checkpoint", "evaluate --checkpoint", "train --save-dir", "ablate --results"]
)
def test_none_is_no_value(words):
    refused(run(*words.split(), "None"), words.split()[-1], "leave it out")


def test_bad_verb_and_bad_synth(tmp_path, plates):
    refused(run_process("trian"), "trian", "train")
    refused(run("synth", tmp_path / "new", "--layouts", "french"), "french")
    refused(run("synth", tmp_path / "new", "--severity", "mild"), "mild")
    refused(run("synth", tmp_path / "new", "--n", 0), "--n")
    refused(run("synth", tmp_path / "new", "--seed", -1), "--seed")
    refused(run("synth", tmp_path / "new", "--layouts"), "--layouts")
    assert not (tmp_path / "new").exists()
    refused(run("synth", plates, "--n", 5), "holds labels.csv already")


def test_stage_without_the_one_before(tmp_path):
    refused(
        run("train", "--stage", 2, "--no-tensorboard", "--save-dir", tmp_path / "run", *TINY),
        "stage1_warmup",
        "--stage stage1",
    )


def test_a_run_is_never_overwritten_unasked(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")

    def state():
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}

    before = state()
    words = "train", "--no-tensorboard", "--save-dir", folder, *TINY
    for stage in ("all", "2", "hard_mining"):
        refused(run(*words, "--stage", stage), "--resume", "--overwrite")
    assert state() == before
    for wrong in (
        ("--data.severity", "heavy"),
        ("--data-root", tmp_path / "nowhere"),
        ("--device", "cuda:77"),
        ("--progressive_training.stage2.learning-rate", "nan"),
        ("--loss.lambda-char", "1e300"),
        ("--training.start-from", tmp_path / "gone.safetensors"),
        ("--model.recognizer.num-slots", "5"),
    ):
        refused(run(*words, "--overwrite", *wrong))
        assert state() == before, wrong
    refused(run(*words, "--resume", "--data.severity", "hard"), "data.severity", "--overwrite")
    assert state() == before


def spoil_psnr(folder):
    path = folder / "stage1_warmup" / "best.safetensors"
    tensors, note = load_tensors(path)
    save_tensors(path, tensors, note | {"psnr": "x"})


def cut_state(folder):
    path = folder / "stage2_lcofl" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def lead_elsewhere(folder):
    (folder / "stage3_finetune").rename(folder.parent / "mine")
    (folder / "stage3_finetune").symlink_to(folder.parent / "mine")


def be_somebodys(folder):
    "A folder with files of a run's names, and an empty folder of a stage's"
    for place in [p for p in folder.iterdir() if p.is_dir()] + [folder / "run.json"]:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    (folder / "stage3_finetune").mkdir()


@pytest.mark.parametrize("spoil, how", [
    (spoil_psnr, "--overwrite"), (cut_state, "--overwrite"),
    (lead_elsewhere, "--overwrite"), (be_somebodys, "--resume"),
])  # fmt: skip
def test_what_a_stage_takes_over_is_looked_at_before_anything_is_deleted(spoil, how, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    spoil(folder)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    found = run("train", "--no-tensorboard", "--save-dir", folder, "--stage", "3", how, *TINY)
    refused(found)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before, found


def test_a_folder_that_is_read_is_not_written_to(trained, checkpoint, tmp_path):
    data = tmp_path / "data"
    assert run("synth", data, "--n", 6).code == 0
    rows = list(csv.DictReader(open(data / "labels.csv")))
    (data / rows[0]["image_path"]).rename(data / "samples.png")
    rows[0] |= {"image_path": "samples.png", "split": "test"}
    write_table(data, rows)
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    words = "--data-root", data, "--save-dir", data, "--overwrite"
    refused(run("evaluate", "--checkpoint", checkpoint, *words), "its own input")
    refused(run("train", "--stage", "0", *words, *TINY), "data.data_root")
    (data / "config.yaml").write_text("# mine\nmodel: {num_channels: 8}\n")
    refused(run("train", "--config", data / "config.yaml", "--save-dir", data, "--overwrite"), "its own input")
    assert {p: p.read_bytes() for p in data.rglob("*") if p.is_file() and p.name != "config.yaml"} == before


def test_a_file_where_a_folder_should_be(tmp_path, checkpoint, picture):
    file, crop = tmp_path / "file", picture("crop.png")
    file.write_text("")
    for place in (file, file / "below"):
        refused(run("train", "--no-tensorboard", "--save-dir", place, *TINY), "file")
        refused(run("evaluate", "--checkpoint", checkpoint, "--num", 4, "--save-dir", place), "file")
        refused(run("enhance", crop, place, "--checkpoint", checkpoint), "file")
        refused(run("synth", place, "--n", 5), "file")


# ---- what works


def test_train_all_stages(trained_run):
    folder, outcome = trained_run
    assert "Warning" not in outcome.err and "Traceback" not in outcome.err, outcome.err
    for stage in ("stage1_warmup", "stage2_lcofl", "stage3_finetune", "stage4_hard_mining", "lr_reader"):
        assert any(
            line.startswith(f"{stage}: ") and f"starts from {folder}" in line for line in outcome.out.splitlines()
        )
    for row in ("bicubic", "lr_reader", "sr", "hr"):
        assert f"\n{row}" in outcome.out, outcome.out
    assert (folder / "samples.png").stat().st_size > 1000 and "<h1" in (folder / "report.html").read_text()
    assert "calibrated on 200 readings" in outcome.out
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {(r["input"], r["judge"]) for r in metrics["rows"]} == {("lr_reader", "reader"), ("hr", "reader")} | {
        (i, j) for i in ("bicubic", "sr", "hr") for j in ("judge", "judge_snapped", "recognizer")
    }
    assert {r["dataset"] for r in metrics["rows"]} == {
        name + how for name in ("rendered", "rendered, unseen font") for how in ("", ", as they come")
    }
    assert (
        "SR against reading LR directly:" in outcome.out
        and len((folder / "readings.csv").read_text().splitlines()) == 1 + 4 * 32
    )
    config = load_config("full", folder / "config.yaml")
    assert config.model == load_models(folder / "best.safetensors")[0].config and config.model.num_channels == 8


def test_evaluate_scores_each_severity_and_draw(checkpoint, tmp_path):
    words = ("--severity", "medium,hard", "--draws", 2, "--num", 6, "--save-dir", tmp_path)
    outcome = run("evaluate", "--checkpoint", checkpoint, *words)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "report.html").is_file()
    assert len((tmp_path / "readings.csv").read_text().splitlines()) == 1 + 4 * 2 * 12
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {r["severity"] for r in rows} == {"medium", "hard"}
    assert {r["n"] for r in rows if r["layout"] == "all"} == {12} and len({r["dataset"] for r in rows}) == 4
    assert "rendered: 6 plates x 2 draws, severity hard" in outcome.out
    assert "rendered, as they come: 6 plates x 2 draws, severity hard" in outcome.out
    which = ("sr", "judge", "all", "rendered")
    sr = {r["severity"]: r["psnr"] for r in rows if (r["input"], r["judge"], r["layout"], r["dataset"]) == which}
    assert sr["medium"] > sr["hard"], "the named severity is the one that was used"


def test_enhance_takes_any_size_and_suffix(checkpoint, picture, tmp_path):
    sizes = {"lr.png": (16, 48), "photo.jpg": (20, 60), "wide.jpeg": (10, 60), "tall.png": (40, 40)}
    for name, size in sizes.items():
        picture(f"in/{name}", *size)
    assert run("enhance", tmp_path / "in", tmp_path / "out", "--checkpoint", checkpoint).code == 0
    shapes = {p.name: cv2.imread(str(p)).shape[:2] for p in (tmp_path / "out").iterdir()}
    assert set(shapes) == {"lr.png", "photo.png", "wide.png", "tall.png"} and set(shapes.values()) <= {
        (32, 96),
        (32, 73),
    }, "as wide as the layout"
    assert run("enhance", tmp_path / "in" / "lr.png", tmp_path / "one.png", "--checkpoint", checkpoint).code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "out" / "lr.png").read_bytes()


def test_enhance_goes_on_past_a_bad_file_and_names_it(checkpoint, picture, text_png, tmp_path):
    picture("notes/good.png")
    outcome = run("enhance", text_png.parent, tmp_path / "out", "--checkpoint", checkpoint)
    assert outcome.code == 1 and "1 written" in outcome.out and "note.png" in outcome.err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_read_says_what_is_shown_as_it_is(checkpoint, picture, tmp_path):
    sharp = cv2.imread(str(picture("in/sharp.png", 32, 96)))
    cv2.imwrite(str(tmp_path / "in" / "enlarged.png"), cv2.resize(cv2.GaussianBlur(sharp, (0, 0), 3), (192, 64)))
    outcome = run("read", tmp_path / "in", "--checkpoint", checkpoint, "--no-rectify")
    assert outcome.code == 0, outcome.err
    lines = dict(line.split("\t", 1) for line in outcome.out.splitlines())
    assert set(lines) == {"sharp.png", "enlarged.png"}
    assert "; sharp" in lines["sharp.png"] and "sharp" not in lines["enlarged.png"]
    for line in lines.values():
        assert 0 <= float(line.split("\t")[1].split()[0]) <= 1


def test_marked_corners_are_used(checkpoint, picture, tmp_path):
    crop = picture("in/a.png", 40, 90)
    corners = [[5.0, 4.0], [80.0, 6.0], [82.0, 33.0], [6.0, 31.0]]
    found = json.loads(run("read", crop, "--checkpoint", checkpoint, "--json").out)[0]
    crop.with_suffix(".json").write_text(json.dumps(dict(shapes=[dict(points=corners)])))
    marked = json.loads(run("read", crop, "--checkpoint", checkpoint, "--json").out)[0]
    assert found["doubt"] > 0 == marked["doubt"] and marked["corners"] == [corners] != found["corners"]
    assert run("enhance", crop, tmp_path / "marked.png", "--checkpoint", checkpoint).code == 0
    for other in ('{"shapes": []}', '{"shapes": "round"}', '{"shapes": [{"points": [[1, 2], [60, 20]]}]}'):
        crop.with_suffix(".json").write_text(other)
        assert json.loads(run("read", crop, "--checkpoint", checkpoint, "--json").out)[0] == found, "it marks no plate"
    for place in (crop.parent, tmp_path):
        (place / "labels.csv").write_text("file,label\na.png,ABC1234\n")
        assert json.loads(run("read", crop, "--checkpoint", checkpoint, "--json").out)[0] == found, "not our table"


def test_synth_folder_trains_and_evaluates(plates, checkpoint, tmp_path):
    header, *rows = (plates / "labels.csv").read_text().splitlines()
    assert header == "image_path,plate_text,lr_path,layout,split" and len(rows) == 40
    image, text, lr, layout, split = rows[0].split(",")
    assert cv2.imread(str(plates / image)).shape == (32, 96, 3) and cv2.imread(str(plates / lr)).shape == (16, 48, 3)
    words = ("--data-root", plates, "--save-dir", tmp_path / "run", "--no-tensorboard", "--debug", *TINY)
    trained = run("train", "--stage", 0, *words)
    assert trained.code == 0 and "40 plates" in trained.out, trained
    for stage in ("guide", "lr_reader", 1):
        assert run("train", "--stage", stage, *words).code == 0
    outcome = run("evaluate", "--data-root", plates, "--checkpoint", checkpoint, "--save-dir", tmp_path / "scores")
    assert outcome.code == 0 and "4 plates x 1 draws" in outcome.out, outcome
    rows = json.loads((tmp_path / "scores" / "metrics.json").read_text())["rows"]
    assert {r["dataset"] for r in rows} == {str(plates)}


def test_synth_writes_tracks(tmp_path):
    outcome = run("synth", tmp_path / "tracks", "--n", 10, "--frames", 3, "--severity", "surveillance", "--unrectified")
    assert outcome.code == 0 and "30 frames of 10 plates" in outcome.out
    report = run("data", "check", tmp_path / "tracks")
    assert report.code == 0 and "30 plates, 30 LR/HR pairs, 10 tracks" in report.out, report
    for frames in (0, 1001, 10**5):
        refused(run("synth", tmp_path / "none", "--frames", frames), "--frames")


COUNTRY = """
nowhere:
  mask: LLLDDDDLL
  aspect: 4.0
  fonts: {own.yaml: 2, fe: 1}
  characters: {box: [0, 0, 1, 1]}
  styles: {white: {plate: [250, 250, 250], ink: [0, 0, 0]}}
"""


def test_a_country_and_a_font_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / "nowhere.yaml"
    file.write_text(COUNTRY)
    refused(run("synth", tmp_path / "none", "--layouts", file), "layout 'nowhere'", "no such font file")
    shutil.copy(DATA_DIR / "fonts" / "drawn" / "fe.yaml", file.with_name("own.yaml"))
    monkeypatch.chdir(tmp_path)  # the font is looked for beside the file, wherever the command runs
    outcome = run("synth", "out", "--layouts", "files/nowhere.yaml", "--n", 10)
    assert outcome.code == 0 and len(list((tmp_path / "out" / "hr").glob("*.png"))) == 10, outcome


def test_a_working_folder_that_has_been_deleted(tmp_path):
    words = 'mkdir gone; cd gone; rmdir ../gone; "$0" -m lp_asrn runs'
    where = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", words, sys.executable], capture_output=True, text=True, cwd=tmp_path, env=where)
    refused(Outcome(done.returncode, done.stdout, done.stderr), "has been deleted")


def test_pictures_may_lie_outside_the_data_folder(checkpoint, picture, tmp_path):
    paths = picture("elsewhere/a.jpg", 32, 96), picture("b.png", 32, 96)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text(f"image_path,plate_text\n{paths[0]},ABC1234\n../b.png,ABC1D23\n")
    outcome = run(
        "evaluate", "--checkpoint", checkpoint, "--data-root", tmp_path / "data", "--save-dir", tmp_path / "scores"
    )
    assert outcome.code == 0 and "2 plates" in outcome.out, outcome


def test_real_plates(checkpoint, tmp_path):
    folder = ROOT.parent / "shared" / "real" / "openalpr_br"
    if not folder.is_dir():
        pytest.skip("../shared/real, which is not part of the project, is not here")
    outcome = run(
        "evaluate", "--checkpoint", checkpoint, "--data-root", folder, "--severity", "medium", "--save-dir", tmp_path
    )
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {r["n"] for r in rows} == {59} and {r["input"] for r in rows} == {"bicubic", "lr_reader", "sr", "hr"}


@pytest.mark.parametrize("preset", presets())
def test_presets_name_existing_keys(preset):
    assert load_config(preset).model.num_rrdb_blocks >= 1


@pytest.mark.parametrize("words", ["--overwrite --model.num_channels 16", "--overwrite --preset paper"])
def test_what_cannot_start_deletes_and_writes_nothing(trained, tmp_path, words):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)

    def content():
        return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    before = content()
    refused(run("train", "--stage", 2, "--save-dir", folder, "--no-tensorboard", *words.split()), "architecture")
    assert content() == before


def test_overwriting_a_stage_removes_what_came_after_it_and_the_run_goes_on_from_there(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    kept = (folder / "stage1_warmup" / "best.safetensors").read_bytes()
    outcome = run("train", "--debug", "--stage", "2", "--overwrite", "--no-tensorboard", "--save-dir", folder)
    assert outcome.code == 0 and f"starts from {folder / 'stage1_warmup'}" in outcome.out, outcome
    assert {p.name for p in folder.iterdir() if p.is_dir()} >= {"stage0", "stage1_warmup", "stage2_lcofl"}
    assert not (folder / "stage3_finetune").exists() and not (folder / "stage4_hard_mining").exists()
    assert set(json.loads((folder / "stages.json").read_text())) == {"stage1", "stage2"}
    assert (folder / "lr_reader").exists(), "it comes before stage 1"
    again = run("train", "--debug", "--resume", "--no-tensorboard", "--save-dir", folder, *TINY)
    assert again.code == 0 and again.out.count("passed over") == 5, again
    assert f"starts from {folder / 'stage3_finetune'}" in again.out
    assert (folder / "stage1_warmup" / "best.safetensors").read_bytes() == kept


def test_training_the_direct_reader_again_removes_the_generators_that_were_drawn_by_it(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    outcome = run("train", "--debug", "--stage", "lr_reader", "--overwrite", "--no-tensorboard", "--save-dir", folder)
    assert (
        outcome.code == 0
        and f"starts from {folder / 'guide'}" in outcome.out
        and not (folder / "stage1_warmup").exists()
    ), outcome


def test_judges_are_picked_by_name(checkpoint, tmp_path):
    words = ("evaluate", "--checkpoint", checkpoint, "--num", 2, "--save-dir", tmp_path)
    refused(run(*words, "--judge", "rapidcor"), "rapidcor", "did you mean 'rapidocr'")
    if find_spec("rapidocr") is None:
        refused(run(*words, "--judge", "all"), "pip install")
        return
    outcome = run(*words, "--judge", "all")
    assert outcome.code == 0, outcome
    rows = {(r["input"], r["judge"]) for r in json.loads((tmp_path / "metrics.json").read_text())["rows"]}
    assert rows >= {
        (i, j)
        for i in ("bicubic", "sr", "hr")
        for j in ("judge", "judge_snapped", "rapidocr", "rapidocr_snapped", "recognizer")
    }


def test_data_without_a_split_is_refused_before_training_and_broken_pictures_are_named(tmp_path):
    assert run("synth", tmp_path / "data", "--n", 20).code == 0
    (tmp_path / "data" / "hr" / "train_000003.png").write_text("no picture")
    words = (
        "train",
        "--stage",
        0,
        "--data-root",
        tmp_path / "data",
        "--no-tensorboard",
        *TINY,
        "--progressive_training.stage0.epochs",
        1,
    )
    outcome = run(*words, "--save-dir", tmp_path / "run")
    assert outcome.code == 0 and "19 plates" in outcome.out and "train_000003.png" in outcome.out, outcome
    assert run("synth", tmp_path / "few", "--n", 5).code == 0
    refused(
        run("train", "--data-root", tmp_path / "few", "--no-tensorboard", *TINY, "--save-dir", tmp_path / "none"),
        "split 'val'",
    )
    assert not (tmp_path / "none").exists()


def test_plates_that_bring_their_lr_get_no_severity(checkpoint, tmp_path):
    assert run("synth", tmp_path / "data", "--n", 10, "--severity", "clean").code == 0
    outcome = run(
        "evaluate",
        "--checkpoint",
        checkpoint,
        "--data-root",
        tmp_path / "data",
        "--severity",
        "medium,hard",
        "--draws",
        3,
        "--save-dir",
        tmp_path,
    )
    assert outcome.code == 0 and "no severity is applied" in outcome.out
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert {r["severity"] for r in rows} == {"as given"} and max(r["n"] for r in rows) == 1
