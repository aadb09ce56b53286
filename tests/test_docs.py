"What is written for readers: no dead link or missing picture, no name of no file, nothing public without words"

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shutil
import types
import typing

import numpy as np
import pytest
import torch
from fastcore.docments import docments
from helpers import ROOT
from test_package import NOTEBOOKS, ORDER

from lp_asrn import Reader
from lp_asrn.config import DATA_DIR
from lp_asrn.models.folders import PRETRAINED
from lp_asrn.plates.pictures import read_image
from lp_asrn.tools.variants import COLUMN, VARIANTS, read_results, worth

PROSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PROSE += [folder / "README.md" for folder in PRETRAINED.values()]


def prose(path) -> str:
    "Markdown of a file, without its code blocks"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def slugs(text: str) -> set[str]:
    "Anchors of the headings, as code hosts make them"
    headings = re.findall(r"^#+ +(.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", [*PROSE, *NOTEBOOKS], ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    text = prose(path)
    links = re.findall(r"\]\(([^)\s]+)", re.sub(r"`[^`\n]*`|\$[^$]*\$", "", text)) + re.findall(
        r'(?:src|href)="([^"]+)"', text
    )
    dead = []
    for link in links:
        place, _, anchor = link.partition("#")
        if re.match(r"https?://[\w.-]+\.\w+(/|$)", place):
            continue  # elsewhere: a test without network cannot ask
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in slugs(prose(target))):
            dead.append(link)
    assert not dead
    names = {p.stem for p in NOTEBOOKS}
    for name in re.findall(r"\bnbs/([\w.]+)\.ipynb|`(\d{2,3}_[\w.]+?)(?:\.ipynb)?`", text):
        assert (name[0] or name[1]) in names, name
    for name in re.findall(r"\b(tests/\w+\.py)", text):
        assert (ROOT / name).is_file(), name


def test_the_checker_finds_what_is_dead(tmp_path):
    page = tmp_path / "x.md"
    for words in (
        "[a](gone.md)",
        "![a](gone.png)",
        "[a](#gone)",
        '<img src="gone.png">',
        "see nbs/99_gone.ipynb",
        "see `99_gone`",
    ):
        page.write_text(f"# Here\n\n[fine](#here) {words}\n")
        with pytest.raises(AssertionError):
            test_links_lead_somewhere(page)
    page.write_text("# Here\n\n[fine](#here) `[a](b)` $[a](b)$\n\n```\n[a](gone.md)\n```\n")
    test_links_lead_somewhere(page)


def speaks_for_itself(annotation) -> bool:
    "A type of this package, which has a docstring of its own, or one of two whose parameters need no words"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return all(speaks_for_itself(a) or a is type(None) for a in typing.get_args(annotation))
    return annotation in (torch.device, np.random.Generator) or (
        inspect.isclass(annotation) and annotation.__module__.startswith("lp_asrn")
    )


def public_functions(module):
    "Functions and methods that are public, with their names; the fields of a dataclass have comments of their own"
    for key in module.__all__:
        thing = getattr(module, key)
        if inspect.isfunction(thing):
            yield key, thing
        elif inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
            if "__init__" in vars(thing) and not dataclasses.is_dataclass(thing):
                yield f"{key}.__init__", thing.__init__
            for name, method in vars(thing).items():
                method = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
                if inspect.isfunction(method) and not name.startswith("_"):
                    yield f"{key}.{name}", method


@pytest.mark.parametrize("name", sorted(ORDER))
def test_public_functions_have_docstrings_and_docments(name):
    bare = []
    for key, function in public_functions(importlib.import_module(f"lp_asrn.{name}")):
        said = docments(function)
        if not function.__doc__ and not key.endswith((".__init__", ".forward")):  # these two the class speaks for
            bare.append(key)
        for p in list(inspect.signature(function).parameters.values()):
            known = (
                p.name in ("self", "cls") or p.kind is p.VAR_KEYWORD
            )  # docments does not see the comment of a ** parameter
            if not known and not said.get(p.name) and not speaks_for_itself(p.annotation):
                bare.append(f"{key}({p.name})")
    assert not bare


@pytest.mark.parametrize("name", sorted(ORDER))
def test_public_functions_are_typed(name):
    "The wheel says so (`py.typed`); the types of ** parameters are those of what they are passed on to"
    bare = []
    for key, function in public_functions(importlib.import_module(f"lp_asrn.{name}")):
        said = inspect.signature(function)
        given = [p for p in said.parameters.values() if p.name not in ("self", "cls") and p.kind is not p.VAR_KEYWORD]
        bare += [f"{key}({p.name})" for p in given if p.annotation is p.empty]
        if said.return_annotation is said.empty and not key.endswith(".__init__"):
            bare.append(f"{key} -> ?")
    assert not bare


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    crops = sorted((DATA_DIR / "examples").glob("*.png"))
    crop = max(zip(Reader().read([read_image(c) for c in crops]), crops), key=lambda pair: pair[0].confidence)[1]
    shutil.copy(crop, tmp_path / "crop.png")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert read_image("enhanced.png").shape[0] == 32 and capsys.readouterr().out.count(crop.stem) >= 2


READ_BY = {
    "bicubic, read by the judge": ("bicubic", "judge"),
    "SR, read by the judge": ("sr", "judge"),
    "LR, read directly by a recogniser trained on LR": ("lr_reader", "reader"),
    "what a user gets: LR, and a second look where it is unsure": ("thorough", "reader"),
    "HR, read by the judge": ("hr", "judge"),
}


SETS = {"photographs": "../shared/real/openalpr_br", "rendered": "rendered"}


def test_results_of_the_readme_are_those_of_the_files():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    heading = re.search(r"^\| \|(.*photographs.*)\|$", page, re.M)[1]
    for row, reader in READ_BY.items():
        line = f"| {row} |"
        for column in (h.strip() for h in heading.split("|")):
            kind, severity, way = (*column.split(", ", 2), "")[:3]
            file = json.loads((ROOT / "nbs" / "evidence" / "small" / f"{kind}.json").read_text(encoding="utf-8"))
            which = {"severity": severity.strip("`"), "layout": "all", "frames": 1}
            which |= {"input": reader[0], "judge": reader[1]}
            which["dataset"] = SETS[kind] + f", {way}" * bool(way)
            (r,) = (r for r in file["rows"] if all(r[k] == v for k, v in which.items()))
            line += " {:.1f} % ({:.1f}-{:.1f}) |".format(*(100 * v for v in (r["all"], *r["all_ci"])))
        assert line in page, line


PARTS = {  # of the README's table -> the row of the ablation that lacks it
    "EC": "no_ec",
    "$L_C$ (with $L_P$, EC, $L_F$)": "no_lc",
    "$L_P$": "no_lp",
    "MSCA": "no_msca",
    "EA": "no_ea",
    "DCNv4": "conv",
    "stage 3": "no_stage3",
    "stage 4": "no_stage4",
    "text prior": "bare",
}


def parts_line(part: str, claim: str, name: str, results: dict, first: dict) -> str:
    "A line of the README's table of parts"
    then = first[{"bare": "no_prior"}.get(name, name)][COLUMN]
    cells = [part, claim, "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in then))]
    for row in (name, f"bare_{name}"):
        for key in (COLUMN, "rendered/medium/rapidocr"):
            cells.append(str(worth(results, row, key) if row in VARIANTS else ""))
    return f"| {' | '.join(cells)} |"


def claims() -> dict[str, str]:
    "Row of the ablation -> what was claimed of the part that it lacks, as notebook 711 has it"
    cells = json.loads((ROOT / "nbs" / "711_evidence.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = (s for c in cells if (s := "".join(c["source"])).startswith("CLAIMS = "))
    return {name: claim for name, (_, claim, _) in ast.literal_eval(ast.parse(source).body[0].value).items()}


def test_what_the_readme_says_of_parts_is_in_the_files():
    page, folder, claimed = (ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "nbs" / "evidence", claims()
    results, first = read_results(folder / "ablation"), json.loads((folder / "first_edition.json").read_text())
    for part, name in PARTS.items():
        line = parts_line(part, claimed[name], name, results, first)
        assert line in page, line
    helps = [part for part, name in PARTS.items() if worth(results, name).word == "helps"]
    assert f"Shown to help by the judge: {', '.join(helps)}." in page


def test_what_the_readme_says_of_tracks_is_in_the_file():
    found = json.loads((ROOT / "nbs" / "evidence" / "tracks.json").read_text(encoding="utf-8"))["read"]["hard"]
    track, lr, sr = (100 * found[k].count("1") / len(found[k]) for k in ("SR of five", "LR of one", "SR of one"))
    said = f"the judge reads it in {track:.1f} % of rendered"
    page = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert said in page and f"LR reading of one frame has {lr:.1f} % and its SR {sr:.1f} %" in page


@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if "widgets" in n.name], ids=lambda n: n.stem)
def test_a_panel_has_a_figure_for_pages_without_a_kernel(notebook):
    outputs = [
        o.get("data", {})
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for o in c.get("outputs", [])
    ]
    assert any("image/png" in data for data in outputs)
    assert not any("widget-view" in mime for data in outputs for mime in data), (
        "outputs of widgets have random names: clear them"
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_each_notebook_tells_its_part(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    words = [c for c in cells if c["cell_type"] == "markdown"]
    head = "".join(words[0]["source"])
    assert re.match(r"# .+\n\n> .+", head), "a title, and a line that says what for"
    explained = sum(len("".join(c["source"]).split()) for c in words)
    assert len(words) >= 2 or explained >= 40, "why"
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    lines = "\n".join(line for c in code for line in c.splitlines() if not re.match(r"\s*[%!]", line))
    tested = any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(lines)))
    assert tested or re.search(
        r"tests/\w|[Tt]est\w* .*\]\(\d{3}_[\w.]+\.ipynb\)", "".join("".join(c["source"]) for c in words)
    ), "a test, or where it is"


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3", "stage4"])
def test_a_stage_says_at_the_top_what_it_adds(stage):
    "The number and its interval are those of the demo's file"
    file = json.loads((ROOT / "nbs" / "evidence" / "demo" / "stages.json").read_text(encoding="utf-8"))[stage]
    (notebook,) = (ROOT / "nbs").glob(f"*_{stage}_*.ipynb")
    top = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    gain, low, high = (100 * v for v in file["gain"])
    assert f"{gain:+.1f} points ({low:+.1f} to {high:+.1f})" in top and f"{100 * file['all']:.1f} %" in top


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_run_all_starts_nothing_slow(notebook):
    "A slow cell does nothing unless it was asked for"
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("#| slow"):
            first, asks = ast.parse(source).body
            assert isinstance(first, ast.Import) and ast.unparse(asks).startswith("if 'LP_ASRN_SLOW' in os.environ:")
