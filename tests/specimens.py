"""Rendered plates in exactly the form in which each published set lies on disk"""

__all__ = [
    "PUBLISHED",
    "LONG",
    "CYCLE",
    "SPECIMENS",
    "paste",
    "write_rodosol",
    "write_rodosol_sr",
    "write_ufpr",
    "write_lrlpr",
    "write_generic",
]


import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from lp_asrn.plates.corners import Corners, whole
from lp_asrn.plates.folder import PlateFiles, write_table
from lp_asrn.plates.layouts import LAYOUTS, split_of
from lp_asrn.plates.pictures import write_image
from lp_asrn.plates.render import render_plate

PUBLISHED = {"brazilian": "Brazilian", "mercosur-br": "Mercosur"}  # our names of layouts -> those of the published sets


def _draw(rng: np.random.Generator, number: int, height: int = 40) -> Iterator[tuple[str, str, np.ndarray]]:
    "`number` plates of different texts, the layouts in turn: text, layout, (height, 3 height, 3) uint8"
    seen = set()
    while len(seen) < number:
        layout = LAYOUTS[list(PUBLISHED)[len(seen) % 2]]
        text = layout.draw_text(rng)
        if text not in seen:
            seen.add(text)
            yield text, layout.name, render_plate(text, layout, rng, height)


def paste(
    plate: np.ndarray,  # (h, w, 3) uint8
    rng: np.random.Generator,
    height: int = 180,  # of the photograph, in pixels
    width: int = 320,  # of the photograph, in pixels
) -> tuple[np.ndarray, Corners]:  # (height, width, 3) uint8, and whole-numbered corners
    "A photograph of grey clouds with the plate seen at an angle"
    clouds = cv2.resize(rng.integers(40, 160, (9, 16), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    photo = cv2.cvtColor(clouds, cv2.COLOR_GRAY2RGB)
    h, w = plate.shape[:2]
    upright, centre = whole(plate), np.float32(0.5)
    left, top = rng.integers(10, width - w - 10), rng.integers(10, height - h - 10)
    quad = np.round(upright + (left, top) + rng.uniform(-0.1, 0.1, (4, 2)) * h)
    warp = cv2.getPerspectiveTransform(upright - centre, np.float32(quad) - centre)
    cv2.warpPerspective(
        plate, warp, (width, height), dst=photo, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    return photo, tuple((float(x), float(y)) for x, y in quad)


def _shrink(picture: np.ndarray, factor: int = 2) -> np.ndarray:
    "An LR partner, `factor` times smaller"
    return cv2.resize(picture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)


def _jpeg(path: Path, picture: np.ndarray) -> Path:
    "Write a JPEG, and folders as needed"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path


def _png(path: Path, picture: np.ndarray) -> Path:
    "Write a PNG, and folders as needed"
    write_image(path, picture)
    return path


LONG = {"train": "training", "val": "validation", "test": "testing"}  # how these sets name the splits
CYCLE = ("train", "test", "val", "test", "train")  # 40/20/40


def write_rodosol(
    root: Path,  # folder to write to, made as needed
    rng: np.random.Generator,
    number: int = 10,  # cars, one picture each
) -> list[PlateFiles]:
    "RodoSol-ALPR: `number` cars, and two motorcycles for which no row is expected"
    rows, lines = [], []
    for i, (text, layout, plate) in enumerate(_draw(rng, number + 2)):
        kind, split = "car" if i < number else "motorcycle", CYCLE[i % 5]
        photo, corners = paste(plate, rng)
        image = _jpeg(root / "images" / f"{kind}s-{PUBLISHED[layout][:2].lower()}" / f"img_{i:06d}.jpg", photo)
        where = " ".join(f"{x:.0f},{y:.0f}" for x, y in corners)
        image.with_suffix(".txt").write_text(
            f"type: {kind}\nplate: {text}\nlayout: {PUBLISHED[layout]}\ncorners: {where}\n"
        )
        lines.append(f"{image.relative_to(root).as_posix()};{LONG[split]}\n")
        if kind == "car":
            rows.append(PlateFiles(image, text, layout, split, corners=corners))
    (root / "split.txt").write_text("".join(lines))
    return rows


def write_rodosol_sr(
    root: Path,  # folder to write to, made as needed
    rng: np.random.Generator,
    number: int = 10,  # pairs of HR and LR
) -> list[PlateFiles]:
    "RodoSol-SR: pairs of crops named by a list"
    rows, lines = [], []
    for i, (text, layout, plate) in enumerate(_draw(rng, number)):
        hr, lr = _jpeg(root / "HR" / f"img_{i:06d}.jpg", plate), _jpeg(root / "LR" / f"img_{i:06d}.jpg", _shrink(plate))
        hr.with_suffix(".txt").write_text(f"plate: {text}\n")
        rows.append(PlateFiles(hr, text, layout, CYCLE[i % 5], lr, registered=True))
        lines.append(f"HR/{hr.name};LR/{lr.name};{LONG[CYCLE[i % 5]]}\n")
    (root / "pairs.txt").write_text("".join(lines))
    return rows


def _frame(plate: np.ndarray, rng: np.random.Generator, lr: bool) -> tuple[np.ndarray, Corners]:
    "A loose crop of a photographed plate, and the corners in it"
    photo, corners = paste(_shrink(plate) if lr else plate, rng)
    (left, top), (right, bottom) = np.min(corners, axis=0) - 4, np.max(corners, axis=0) + 5
    crop = photo[int(top) : int(bottom), int(left) : int(right)]
    return crop, tuple((x - left, y - top) for x, y in corners)


def write_ufpr(
    root: Path,  # folder to write to, made as needed
    rng: np.random.Generator,
    number: int = 5,  # tracks, of five frames each
) -> list[PlateFiles]:
    "UFPR-SR-Plates: tracks of five frames, named by a list"
    rows, lines = [], []
    for i, (text, layout, plate) in enumerate(_draw(rng, number)):
        folder, split, frames = root / "tracks" / f"track_{i:05d}", CYCLE[i % 5], {}
        for n in range(1, 6):
            for kind in ("lr", "hr"):
                crop, corners = _frame(plate, rng, kind == "lr")
                path, points = (
                    _png(folder / f"{kind}-{n:03d}.png", crop),
                    list(corners[n % 4 :] + corners[: n % 4])[:: 1 if n % 2 else -1],
                )
                note = dict(
                    shapes=[dict(label="plate", points=points)], imageHeight=crop.shape[0], imageWidth=crop.shape[1]
                )
                path.with_suffix(".json").write_text(json.dumps(note))
                frames[kind, n] = path, corners
            (image, corners), (lr, lr_corners) = frames["hr", n], frames["lr", n]
            rows.append(PlateFiles(image, text, layout, split, lr, f"tracks/{folder.name}", corners, lr_corners, False))
        (folder / f"{folder.name}_{text}.txt").write_text(text)
        lines.append(f"{text};tracks/{folder.name};{LONG[split]}\n")
    (root / "tracks.txt").write_text("".join(lines))
    return rows


def write_lrlpr(
    root: Path,  # folder to write to, made as needed
    rng: np.random.Generator,
    number: int = 6,  # tracks of five frames, the two test tracks included
) -> list[PlateFiles]:
    "LRLPR-26: scenarios A (PNG, corners) and B (JPEG, none); the last two tracks are test tracks, LR alone"
    rows = []
    for i, (text, layout, plate) in enumerate(_draw(rng, number)):
        scenario, labelled = "AABB"[i % 4], i < number - 2
        folder = root / f"Scenario-{scenario}" / PUBLISHED[layout] / f"track_{i:05d}"
        save, suffix, found = (_png, "png", {}) if scenario == "A" else (_jpeg, "jpg", {})
        for n in range(1, 6):
            frames = {
                k: (folder / f"{k}-{n:03d}.{suffix}", *_frame(plate, rng, k == "lr"))
                for k in ("lr", "hr")[: 1 + labelled]
            }
            for path, crop, corners in frames.values():
                save(path, crop)
                found[path.name] = dict(zip(("top-left", "top-right", "bottom-right", "bottom-left"), corners))
            lr, image = frames["lr"], frames.get("hr")
            quads = (image[2], lr[2]) if scenario == "A" and labelled else (None, None)
            words = (text, layout, split_of(text)) if labelled else ("", layout, "test")
            rows.append(
                PlateFiles(image and image[0], *words, lr[0], folder.relative_to(root).as_posix(), *quads, False)
            )
        if labelled:
            note = dict(plate_text=text, plate_layout=PUBLISHED[layout], corners=found if scenario == "A" else {})
            (folder / "annotations.json").write_text(json.dumps(note))
    return rows


def write_generic(
    root: Path,  # folder to write to, made as needed
    rng: np.random.Generator,
    number: int = 10,  # plates, each with HR and LR
) -> list[PlateFiles]:
    "labels.csv with every column; HR pictures in PNG, LR pictures in JPEG"
    rows = []
    for i, (text, layout, plate) in enumerate(_draw(rng, number)):
        hr, lr = _png(root / "hr" / f"{i}.png", plate), _jpeg(root / "lr" / f"{i}.jpg", _shrink(plate))
        rows.append(PlateFiles(hr, text, layout, CYCLE[i % 5], lr, f"car {i}"))

    def name(p):
        return p.relative_to(root).as_posix()

    write_table(
        root,
        [
            dict(
                image_path=name(r.image),
                plate_text=r.text,
                lr_path=name(r.lr),
                layout=r.layout,
                track=r.track,
                split=r.split,
            )
            for r in rows
        ],
    )
    return rows


SPECIMENS: dict[str, Callable[[Path, np.random.Generator], list[PlateFiles]]] = {
    "labels.csv": write_generic,
    "RodoSol-ALPR": write_rodosol,
    "RodoSol-SR": write_rodosol_sr,
    "UFPR-SR-Plates": write_ufpr,
    "LRLPR-26": write_lrlpr,
}  # name of the form -> its writer
