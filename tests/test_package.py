"The whole package: order, names, shipped files, no network, nothing of this machine"

import ast
import configparser
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT, environment
from torch import nn

import lp_asrn
from lp_asrn.config import DATA_DIR
from lp_asrn.models.folders import PRETRAINED

PACKAGE = ROOT / "lp_asrn"
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py", "_modidx.py"))


def cells(notebook: Path) -> list[str]:
    "Sources of the code cells"
    return [
        "".join(c["source"])
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]


def exported(notebook: Path) -> str:
    "Dotted name of the module that a notebook exports; empty if none"
    found = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(cells(notebook)), re.M)
    return found.group(1) if found else ""


def imports(source: str) -> set[str]:
    "Modules of this package that some code imports, without the package's name"
    code = "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.splitlines())
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in a notebook: {ast.unparse(node)}"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("lp_asrn.") for name in found if name.startswith("lp_asrn.")}


ORDER = {
    exported(n): n.name.split("_")[0] for n in NOTEBOOKS if exported(n)
}  # module -> number of its notebook, "16" or "16b"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_a_notebook_imports_only_lower_numbers(notebook):
    number, own = notebook.name.split("_")[0], exported(notebook)
    assert re.fullmatch(r"[0-7]\d\d", number), "three digits, the first one the room"
    if number >= "700":
        assert not own and "#| export" not in "\n".join(cells(notebook)), (
            "a notebook that uses the package exports nothing"
        )
    else:
        name = own.rpartition(".")[2] if own else "about"  # without its room: lists cut long names
        assert notebook.stem == f"{number}_{name}", "below 700, only the map exports nothing"
    used = set().union(*(imports(c) for c in cells(notebook))) & set(ORDER)
    late = {m for m in used if ORDER[m] >= number and m != own}
    assert not late, f"{notebook.name} imports {late}"


def test_each_module_has_one_notebook():
    assert len(set(ORDER.values())) == len(ORDER), "two notebooks with one number"
    assert {".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_a_module_is_short_and_imports_by_name(path):
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    own = source[source.find("\n# %% ..") :].splitlines()  # what is above, `__all__`, is nbdev's
    hint = "split it, or move a part to a module of its own (CONTRIBUTING)"
    assert len(lines) <= 250 and max(map(len, own)) <= 120, (
        f"{len(lines)} lines, the longest of {max(map(len, own))}: {hint}"
    )
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("name", sorted(ORDER))
def test_public_names_are_documented(name):
    module = importlib.import_module(f"lp_asrn.{name}")
    bare = []
    for key in module.__all__:
        thing = getattr(module, key)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            own = inspect.isfunction(thing) or "__doc__" in vars(thing)
            if not (own and thing.__doc__) or thing.__doc__.startswith(
                f"{key}("
            ):  # a dataclass writes its signature there
                bare.append(key)
    assert not bare


def test_no_batch_norm():
    from lp_asrn.config import ModelConfig
    from lp_asrn.evaluation.judges import Judge
    from lp_asrn.models.model_set import ModelSet

    for m in [Judge(), *ModelSet.build(ModelConfig(num_rrdb_blocks=1)).modules().values()]:
        assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in m.modules())
    assert not [p for p in MODULES if "BatchNorm" in p.read_text(encoding="utf-8")]


OFFLINE = """
import sys
calls = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        calls.append((event, args))
        raise OSError("no network in this test")
sys.addaudithook(watch)
from lp_asrn.settings import load_config, presets
from lp_asrn.evaluation.judges import Judge, load_judge
from lp_asrn.models.model_set import ModelSet
for preset in presets():
    ModelSet.build(load_config(preset).model)
for change in ("scale=4", "use_dcnv4=false", "use_character_attention=false", "use_enhanced_attention=false"):
    ModelSet.build(load_config("demo", overrides=["model." + change]).model)
Judge()
load_judge()
print(calls)
"""


def test_models_are_built_without_network():
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and done.stdout == "[]\n", done.stdout + done.stderr


# ---- what is shipped


def test_data_files_are_there():
    for name in (
        "layouts.yaml",
        "deform.cpp",
        "deform.triton",
        "judge.safetensors",
        *(
            f"{size}/{name}"
            for size in PRETRAINED
            for name in ("config.json", "model.safetensors", "reader.onnx", "README.md")
        ),
        "presets/demo.yaml",
        "presets/small.yaml",
        "presets/paper.yaml",
        "presets/full.yaml",
    ):
        assert (DATA_DIR / name).is_file(), name
    assert (DATA_DIR / "judge.safetensors").stat().st_size <= 4 * 2**20


def test_sdist_and_wheel_hold_the_data_files(tmp_path):
    pytest.importorskip("setuptools")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("settings.ini", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(PACKAGE, tree / "lp_asrn", ignore=shutil.ignore_patterns("__pycache__"))

    def build(where: Path, kind: str) -> Path:
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", kind, "--dist-dir", tmp_path / kind],
            cwd=where,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return next((tmp_path / kind).iterdir())

    want = {p.relative_to(tree).as_posix() for p in (tree / "lp_asrn").rglob("*") if p.is_file()}
    with tarfile.open(build(tree, "sdist")) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    assert want <= names
    with zipfile.ZipFile(build(next((tmp_path / "unpacked").iterdir()), "bdist_wheel")) as archive:
        assert want <= set(archive.namelist()), want - set(archive.namelist())


# ---- what the repository says


def test_ci_runs_the_command_of_the_readme():
    readme, script = (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        (ROOT / ".ci" / "run").read_text(encoding="utf-8"),
    )
    block = re.search(r"^## Test\b.*?^```\w*\n(.*?)^```", readme, re.M | re.S)
    assert block, "README has no section 'Test' with a fenced command"
    command = block.group(1).strip()
    assert command in script and "pytest" in command and "nbdev_test" in command


def tracked() -> list[Path]:
    "Files that git tracks, or would after an add"
    done = (
        subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
        if shutil.which("git")
        else None
    )
    if done is None or done.returncode:
        pytest.skip("not a git checkout")
    return [p for p in (ROOT / line for line in done.stdout.splitlines()) if p.is_file()]


def index_hosts() -> set[str]:
    "Hosts that pip is told to fetch from on this machine"
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    return set(re.findall(r"https?://(?:[^/@\s']+@)?([\w.-]+)", done.stdout))


def test_nothing_of_this_machine_is_tracked():
    home = re.compile(r"(?<![\w.~$}-])/(?:work|root|home|Users|opt)/\w|/tmp/tmp\w")
    hosts, found = index_hosts(), []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures, weights
        if path != Path(__file__):
            found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in home.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: {h}" for h in hosts if h in text]
    assert not found


def test_notebooks_are_small_and_have_no_errors():
    for notebook in NOTEBOOKS:
        assert notebook.stat().st_size <= 300_000, notebook.name
        outputs = [o for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", [])]
        assert not [o for o in outputs if o["output_type"] == "error"], notebook.name


def test_the_package_names_what_is_public():
    "For a notebook's completion, and for type checkers"
    code = "import lp_asrn, sys; print({*lp_asrn.__all__} <= {*dir(lp_asrn)}, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout == "True False\n", done
    assert all(callable(getattr(lp_asrn, name)) for name in lp_asrn.__all__) and (PACKAGE / "py.typed").is_file()


def test_version_is_the_one_of_the_settings():
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini")
    assert lp_asrn.__version__ == ini["DEFAULT"]["version"]
    assert f"## {lp_asrn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_an_export_cell_fits_a_screen(notebook):
    exports = [c.splitlines() for c in cells(notebook) if c.startswith("#| export")]
    assert not [f"{len(c)} lines: {c[1]}" for c in exports if len(c) > 41], "40 lines and the directive"


def test_how_large_the_house_is():
    "Prints it: each module and cell has its limit above; what is added is paid for by what it is worth"
    lines = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    rooms = {
        room: sum(n for p, n in lines.items() if p.parent.name == room) for room in {p.parent.name for p in MODULES}
    }
    print(sum(lines.values()), "lines:", rooms, "notebooks:", len(NOTEBOOKS))
    numbers = [re.match(r"\d{3}(?=_)", p.stem) for p in NOTEBOOKS]
    assert all(numbers) and len({m[0] for m in numbers}) == len(numbers), "numbered without letters, each once"
