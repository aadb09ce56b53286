"""Every command that writes, and every way in which something of the user's may stand in its place

What happens is kept in nbs/evidence/writers.json; `LP_ASRN_EVIDENCE=1 pytest tests/test_writers.py` writes it anew."""

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import FEW, ROOT, TINY, environment
from hostile import attack, contents, crop

from lp_asrn.files import write_file

pytestmark = pytest.mark.usefixtures("quick_reader")
EVIDENCE = ROOT / "nbs" / "evidence" / "writers.json"
TRAIN = "--preset demo --stage 0 --no-tensorboard --data.num_train 8 --data.num_val 8 --data.num_test 8".split()
TRAIN += ["--batch-size", 4, "--progressive_training.stage0.epochs", 1, *TINY]
EXPORTED = ["model.safetensors", "config.json", *(f"{name}.onnx" for name in ("generator", "reader", "rectifier"))]
COMMANDS = {  # name -> words (IN, OUT and WEIGHTS are filled in), what it writes in OUT, whether it has --overwrite
    "enhance": (["enhance", "IN", "OUT"], [f"{i}.png" for i in range(8)], True),
    "read --evidence": (["read", "IN", "--evidence", "OUT"], [f"{i}.png" for i in range(8)], True),
    "read --report": (["read", "IN", "--report", "OUT/case.html"], ["case.html"], True),
    "read --submission": (["read", "IN", "--submission", "OUT/s.zip"], ["s.zip"], True),
    "crop": (["crop", "IN", "OUT", "--table", "IN/marked.csv"], ["0.png", "labels.csv"], True),
    "calibrate": (["calibrate", "OUT/c.json", "--data-root", "IN", "--checkpoint", "WEIGHTS"], ["c.json"], True),
    "evaluate": (
        ["evaluate", "--checkpoint", "WEIGHTS", "--data-root", "IN", "--save-dir", "OUT"],
        ["metrics.json", "readings.csv", "report.html", "samples.png"],
        True,
    ),
    "export": (["export", "OUT", "--checkpoint", "WEIGHTS"], EXPORTED, True),
    "synth": (["synth", "OUT", "--n", 8], ["labels.csv", "hr"], False),
    "train": (["train", *TRAIN, "--save-dir", "OUT"], ["config.yaml", "run.json", "report.html", "stage0"], True),
    "ablate": (["ablate", "--variants", "full", "--seeds", 1, "--save-dir", "OUT/runs", "--results", "OUT"],
               ["full-0.json"], False),
}  # fmt: skip
WAYS = {  # how the user's file stands at a name that is wanted: what makes it, from a file of the user's elsewhere
    "same name": lambda mine, at: at.write_bytes(mine.read_bytes()),
    "hard link": lambda mine, at: os.link(mine, at),
    "symbolic link": lambda mine, at: at.symlink_to(mine),
    "folder": lambda mine, at: (at.mkdir(), (at / "mine").write_bytes(mine.read_bytes())),
    "pipe": lambda mine, at: os.mkfifo(at),
}


@pytest.fixture(scope="module")
def table():
    "command -> way -> what happens; compared with what is kept, or kept"
    found: dict[str, dict[str, str]] = {}
    yield found
    if os.environ.get("LP_ASRN_EVIDENCE"):
        EVIDENCE.write_text(json.dumps(found, indent=1) + "\n")


@pytest.fixture
def place(tmp_path, monkeypatch, untrained):
    "Crops with labels to read, a file of the user's, a folder to write to; `place(name)` gives a command's words"
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for i in range(8):
        crop().save(tmp_path / "in" / f"{i}.png")
    rows = "".join(f"{i}.png,ABC123{i},{'val' if i < 4 else 'test'}\n" for i in range(8))
    (tmp_path / "in" / "labels.csv").write_text("image_path,plate_text,split\n" + rows)
    marked = "".join(f'{i}.png,"1,1,9,5"\n' for i in range(8))
    (tmp_path / "in" / "marked.csv").write_text("file,box\n" + marked)
    (tmp_path / "mine").write_bytes(b"the user's own")

    def exported(models, folder, half, int8, note):  # the real one takes a minute, and writes in this way
        for name in EXPORTED:
            write_file(Path(folder, name), bytes(50_000))
        return dict.fromkeys(EXPORTED, "0.05 MiB")

    monkeypatch.setattr("lp_asrn.tools.commands.export_onnx", exported)
    monkeypatch.setattr("lp_asrn.tools.calibrate_command.FEWEST", 4)
    for name, value in FEW.items():
        monkeypatch.setattr(f"lp_asrn.training.calibrate.{name}", value)
    filled = {"IN": str(tmp_path / "in"), "OUT": str(tmp_path / "out"), "WEIGHTS": str(untrained)}
    return lambda name: [re.sub("^[A-Z]+", lambda m: filled.get(m[0], m[0]), str(w)) for w in COMMANDS[name][0]]


def compare(table: dict, name: str, way: str, happened: str) -> None:
    "Enter what happened, which must be what is kept"
    table.setdefault(name, {})[way] = happened
    if not os.environ.get("LP_ASRN_EVIDENCE"):
        assert json.loads(EVIDENCE.read_text())[name][way] == happened, (name, way)


@pytest.mark.xdist_group("writers")
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_of_the_users_is_lost(name, place, table, tmp_path):
    _, targets, can_overwrite = COMMANDS[name]
    for way, make in WAYS.items():
        for target in targets[:1] if name in ("enhance", "read --evidence") else targets:
            at = tmp_path / "out" / target
            make(tmp_path / "mine", at)
            before = contents(tmp_path)
            attack(*place(name))
            assert contents(tmp_path) == before, "refused, and nothing is changed"
            if can_overwrite and way in ("folder", "pipe") and target != "stage0":
                attack(*place(name), "--overwrite")
                assert contents(tmp_path) == before, "not even --overwrite replaces what is no file"
            if at.is_dir() and not at.is_symlink():
                (at / "mine").unlink()
                at.rmdir()
            else:
                at.unlink()
        never = " with --overwrite too" if can_overwrite and way in ("folder", "pipe") else ""
        compare(table, name, way, f"refused in one line, nothing is changed{never}")


@pytest.mark.xdist_group("writers")
@pytest.mark.parametrize("name", [n for n, (*_, can) in COMMANDS.items() if can])
def test_overwrite_replaces_names_and_never_writes_through_links(name, place, table, tmp_path):
    targets = [t for t in COMMANDS[name][1] if t != "stage0"]
    for i, target in enumerate(targets):
        (own := tmp_path / f"mine{i}").write_bytes(b"the user's own")
        list(WAYS.values())[1 + i % 2](own, tmp_path / "out" / target)  # hard and symbolic links in turn
    foreign = tmp_path / "out" / "stage0" / "foreign.safetensors"
    foreign.parent.mkdir()
    foreign.write_bytes(b"the user's own")
    attack(*place(name), "--overwrite", codes=(0,), seconds=200)
    for i, target in enumerate(targets):
        assert (tmp_path / f"mine{i}").read_bytes() == b"the user's own"
        if name != "train" or target != "report.html":  # stage 0 alone has no report
            assert (tmp_path / "out" / target).read_bytes() != b"the user's own"
    assert foreign.read_bytes() == b"the user's own", "what a command does not write it does not delete"
    compare(table, name, "links, --overwrite", "the names are replaced; what the links led to is unchanged")


@pytest.fixture
def disk(tmp_path):
    "Mounts a disk of 256 KiB at a folder: disk(options), gone in the end"
    mounted = []

    def mount(folder: Path, options: str = "") -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"size=256k{options}", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("a small disk cannot be mounted here: it takes root, and a system that lets it")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.xdist_group("writers")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_may_only_be_read(name, place, table, tmp_path, disk):
    disk(tmp_path / "out", ",ro")
    before = contents(tmp_path)
    attack(*place(name), seconds=100)
    assert contents(tmp_path) == before
    compare(table, name, "read-only folder", "refused in one line, nothing is changed")


@pytest.mark.xdist_group("writers")
@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "ablate"])
def test_a_full_disk(name, place, table, tmp_path, disk):
    disk(tmp_path / "out")
    room = {"enhance": 12, "synth": 12, "read --evidence": 16, "export": 120, "evaluate": 40, "train": 40}.get(name, 0)
    (tmp_path / "out" / "mine").write_bytes(bytes((256 - room) << 10) if room else b"mine")
    if not room:
        with open(tmp_path / "out" / "mine", "ab", buffering=0) as f, pytest.raises(OSError):
            while True:
                f.write(bytes(4096))
    before = contents(tmp_path)
    words = [f"{w}/plates" if w == str(tmp_path / "out") and name == "synth" else w for w in place(name)]
    found = attack(*words, codes=(1, 2), seconds=200)  # synth wants an empty folder
    after = contents(tmp_path)
    assert all(after[k] == v for k, v in before.items()), "what was there is still there"
    words = "make room" if name == "train" else "No space left on device"  # it is asked for before a training begins
    assert words in found.err and str(tmp_path / "out") in found.err, found
    assert not [k for k in after if b".lp_asrn-" in k], "no half of a file is left"
    said = "exit code 2, the file that could not be written is named; no half of a file is left"
    if name == "enhance":
        there = sum(k.endswith(b".png") for k in after.keys() - before.keys())
        assert found.code == 1 and 0 < there < 8 and f"{there} written" in found.out, found
        assert found.err.count("\n") == 8 - there
        said = "exit code 1: how many were written, and a line for each that was not"
    compare(table, name, "full disk", said)


# Which files are opened for writing at all

AUDIT = """
import json, os, sys
seen, ways = [], {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1] or "", args[2] or 0
        if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            seen.append(["open", os.path.abspath(os.fsdecode(args[0]))])
    elif event in ways:
        seen.extend([event, os.path.abspath(os.fsdecode(a))] for a in args if isinstance(a, (str, bytes, os.PathLike)))
sys.addaudithook(hook)
from lp_asrn.training import calibrate
calibrate.READINGS, calibrate.TRACKS = 200, 20
from lp_asrn.tools.cli import main
code = 0
try:
    main(sys.argv[2:])
except SystemExit as e:
    code = e.code or 0
found = json.dumps([code, seen])
with open(sys.argv[1], "w") as f:
    f.write(found)
"""


@pytest.mark.parametrize("name", ["read", "enhance", "evaluate", "train"])
def test_no_file_outside_the_output_folder_is_opened_for_writing(name, untrained, tmp_path):
    for part in ("in", "out", "scratch", "cache"):
        (tmp_path / part).mkdir()
    crop().save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "labels.csv").write_text("image_path,plate_text,split\na.png,ABC1234,test\n")
    inside, out = tmp_path / "in", tmp_path / "out"
    written = "--evidence", out, "--submission", out / "s.zip", "--report", out / "case.html"
    words = {
        "read": ["read", inside, "--checkpoint", untrained, *written],
        "enhance": ["enhance", inside, out, "--checkpoint", untrained],
        "evaluate": ["evaluate", "--checkpoint", untrained, "--data-root", inside, "--save-dir", out],
        "train": ["train", "--debug", "--save-dir", out, *TINY],
    }[name]
    apart = {
        "TMPDIR": str(tmp_path / "scratch"),
        "MPLCONFIGDIR": str(tmp_path / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = contents(inside)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, tmp_path / "seen.json", *map(str, words)],
        env=environment() | apart, cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    code, seen = json.loads((tmp_path / "seen.json").read_text())
    assert code == 0, done.stderr
    allowed = [
        out,
        tmp_path / "scratch",
        tmp_path / "cache",
        Path(os.devnull),
    ]  # plates read, fonts of figures, torch's
    allowed += [Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "torch_extensions")]  # the C++ kernel
    allowed += [Path("/tmp", f"torchinductor_{getpass.getuser()}")]  # an empty folder that torch makes
    outside = [x for x in seen if not any(Path(x[1]).is_relative_to(a) for a in allowed)]
    assert not outside, outside
    assert any(Path(x[1]).is_relative_to(out) for x in seen), "the hook sees what is written"
    assert contents(inside) == before and {p.name for p in (tmp_path / "scratch").iterdir()} <= {
        ".tensorboard-info",
        f"torchinductor_{getpass.getuser()}",
    }, "scratch files are gone"
