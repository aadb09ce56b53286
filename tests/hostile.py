"What people who mean no good would hand over: generated names, things that are no files, pictures, tables and notes"

import contextlib
import io
import json
import os
import random
import signal
import socket
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from helpers import Outcome, run
from PIL import Image

MORE = int(os.environ.get("LP_ASRN_HOSTILE", 1))  # times as many generated inputs
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # which Python does not show


class Hung(BaseException):
    "A command that did not come back"


def contents(*folders: Path) -> dict:
    "Every file below folders, by name: links as links, others by their content"
    found = {}
    for root, inner, names in (x for folder in folders for x in os.walk(os.fsencode(folder))):
        for path in (os.path.join(root, name) for name in [*inner, *names]):
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as f:  # of a large one the beginning
                    found[path] = os.path.getsize(path), sha256(f.read(1 << 22)).hexdigest()
    return found


@contextlib.contextmanager
def watched(seconds: float = 30) -> Iterator[io.StringIO]:
    "Within it nothing hangs; what C libraries write to stderr, and warnings that a user would see, are in the result"

    def stop(*_):
        raise Hung

    said, before, native = io.StringIO(), signal.signal(signal.SIGALRM, stop), os.dup(2)
    with tempfile.TemporaryFile() as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for kind in QUIET:
            warnings.simplefilter("ignore", kind)
        os.dup2(file.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield said
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.dup2(native, 2)
            os.close(native)
            file.seek(0)
            said.write(file.read().decode(errors="replace"))
            said.write("".join(f"{w.category.__name__}: {w.message}\n" for w in caught))


def printable(text: str) -> bool:
    "No control character but line feeds and the tab stops of a table"
    return all(c.isprintable() or c in "\n\t" for c in text)


def attack(*args, codes: tuple = (2,), seconds: float = 30) -> Outcome:
    "Run a command on something hostile: it ends, says one line if it refuses, and prints no control character"
    words = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in args]
    with watched(seconds) as said:
        found = run(*words)
    assert found.code in codes, (words, found)
    assert printable(found.out) and printable(found.err), (words, found)
    assert not said.getvalue(), (words, said.getvalue())
    assert "Traceback" not in found.out + found.err
    if found.code == 2:
        assert found.err.count("\n") == 1 and found.err.startswith("lp_asrn: error: "), (words, found)
        assert len(found.err) < 2000, (words, len(found.err))
    return found


# Names

NAMES = [
    "a\nno fault", "\nlp_asrn: error: forged", "\x1b[2J\x1b[31mred", "tab\tname", "\r0 faults", "\x07bell", "\x7f",
    "\x9b1m", "-rf", "--help", "--", "a b", " ", "$x^$", "$\\frac$", "%s%d", "{0}", "{", "a\u202eb", "\u2028",
    "\u200b", "\ufeff", "'; ls", '"', "\\n", "=1+1", "<script>alert(1)", "&amp;", "#", "a;b,c", "*", "?",
    "[a]", "~", "..", "x" * 230, "Straße", "車", "\U0001f697", "e\u0301", "CON", "a:b", "`id`", "$(id)", "|", "a\\b",
    *map(os.fsdecode, (b"caf\xe9", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x80" * 40, b"a\xe2\x80")),
]  # fmt: skip


def names(number: int, seed: int) -> list[str]:
    "Names of files, the well-known ones first, then random bytes; no two alike"
    rng, found = random.Random(seed), dict.fromkeys(NAMES)
    while len(found) < number:
        raw = bytes(rng.choice((rng.randrange(1, 256), rng.randrange(1, 33), 27)) for _ in range(rng.randint(1, 40)))
        found[os.fsdecode(raw.replace(b"/", b"_").strip(b".") or b"x")] = None
    return list(found)[: max(number, 1)]


# Things that are not files


def _chain(path: Path) -> None:
    for i in range(60):
        path.with_name(f"{path.name}.{i}").symlink_to(path.with_name(f"{path.name}.{i + 1}"))
    path.symlink_to(path.with_name(f"{path.name}.0"))


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the whole path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path.name)
    os.chdir(before)


def _sparse(path: Path) -> None:
    with open(path, "wb") as f:
        f.truncate(1 << 36)  # 64 GiB that take no room


def _deep(path: Path) -> None:
    "A thousand folders in each other, a picture in the last one"
    path.mkdir()
    before = os.getcwd()
    os.chdir(path)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    Path("a.png").write_bytes(b"no picture")
    os.chdir(before)


THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "zero": lambda p: p.symlink_to("/dev/zero"),
    "null": lambda p: p.symlink_to("/dev/null"),
    "loop": lambda p: p.symlink_to(p.name),
    "pair": lambda p: (p.symlink_to(f"{p.name}.b"), p.with_name(f"{p.name}.b").symlink_to(p.name)),
    "chain": _chain,
    "dangling": lambda p: p.symlink_to("nowhere"),
    "folder": Path.mkdir,
    "empty": Path.touch,
    "sparse": _sparse,
}


# Pictures


def crop() -> Image.Image:
    "Something like a crop"
    noise = np.random.default_rng(0).integers(0, 256, (5, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((70, 28), Image.Resampling.BICUBIC)


def encoded(form: str, mode: str = "RGB", **how) -> bytes:
    "A picture file"
    crop().convert(mode).save(buffer := io.BytesIO(), form, **how)
    return buffer.getvalue()


def bombs(width: int, height: int) -> dict[str, bytes]:
    "Headers of pictures of that size, by suffix, with next to nothing behind them"

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(bytes(4096))) + chunk(b"IEND", b"")
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1))
    tags += ((278, 4, height), (279, 4, 1000))
    tif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    tif += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags) + bytes(1200)
    gif = b"GIF89a" + struct.pack("<HHBBB", min(width, 65535), min(height, 65535), 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, min(width, 65535), min(height, 65535), 0) + b"\x02\x02\x44\x01\0;"
    bmp = b"BM" + struct.pack("<IHHI", 200, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0) + bytes(300)
    return {".png": png, ".tif": tif, ".gif": gif, ".bmp": bmp}


def odd_pictures() -> Iterator[tuple[str, bytes]]:
    "Whole files of unusual kinds: suffix, content"
    for mode in ("1", "L", "LA", "P", "PA", "RGBA", "I;16", "I", "RGB"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            yield ".png", encoded("PNG", mode)
    for mode in ("1", "L", "LA", "P", "RGBA", "I", "F", "CMYK", "YCbCr", "LAB", "RGBX"):
        for compression in (None, "tiff_lzw", "tiff_deflate", "jpeg", "group4"):
            with contextlib.suppress(Exception):  # not all go together
                yield ".tif", encoded("TIFF", mode, compression=compression)
    for values in (np.nan, np.inf, -1e30, 1e30):
        grey = np.full((20, 60), 0.5, np.float32)
        grey[3, 4] = values
        Image.fromarray(grey).save(buffer := io.BytesIO(), "TIFF")
        yield ".tif", buffer.getvalue()
    yield ".jpg", encoded("JPEG", "CMYK")
    yield ".jpg", encoded("JPEG", "L", progressive=True)
    yield ".png", encoded("PNG", "P", transparency=0)
    yield ".eps", encoded("EPS", "L")
    for size in ((1, 1), (1, 4000), (40000, 1), (65000, 20)):
        crop().resize(size).save(buffer := io.BytesIO(), "PNG")
        yield ".png", buffer.getvalue()
    for size in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 0), (12_000, 12_000), (1, 2**31 - 1)):
        yield from bombs(*size).items()


def pictures(number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    "Odd ones, then cut and damaged ones without an end"
    yield from odd_pictures()
    rng = random.Random(seed)
    whole = [
        (".png", encoded("PNG")),
        (".jpg", encoded("JPEG")),
        (".gif", encoded("GIF", "P")),
        (".bmp", encoded("BMP")),
    ]
    whole += [(".webp", encoded("WEBP")), (".tif", encoded("TIFF")), (".tif", encoded("TIFF", compression="tiff_lzw"))]
    whole += [(".tif", encoded("TIFF", compression="jpeg")), (".jpg", encoded("JPEG", progressive=True))]
    for _ in range(number):
        suffix, content = rng.choice(whole)
        content = bytearray(content)
        how = rng.randrange(4)
        if how == 0:
            content = content[: rng.randrange(len(content))]
        elif how == 1:
            for _ in range(rng.choice((1, 3, 30))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif how == 2:
            for _ in range(rng.choice((1, 2))):  # in the header
                content[rng.randrange(min(200, len(content)))] = rng.choice((0, 1, 127, 128, 255))
        else:
            at = rng.randrange(len(content))
            content[at:at] = rng.randbytes(rng.choice((1, 100, 5000)))
        yield suffix, bytes(content)


# Numbers and texts in tables and notes

NUMBERS = [
    "1e39", "-1e39", "1e300", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" * 5000, "0x10", "1_000", "",
    "١", "-0", "1e-320", "9223372036854775808", "null", "true", '"a"', "[]", "{}",
]  # fmt: skip
TEXTS = [
    "\x1b[2J", "a\x00b", "ABC1234\u200b", "\u202eABC1234", "ABC1234\nno fault", '"ABC1234', "ABC 1234", "АВС1234",
    "", "x" * 5000, "=cmd|' /C calc'!A0", "<b>", "${oc.env:HOME}", "../../../etc/passwd", "/dev/zero",
    "/etc/passwd", ".", "..", "\\\\host\\a", "C:\\a.png", "\x9b31m", "\udce9", "a\u2028b", "\x85", "🚗🚗🚗🚗🚗🚗🚗",
    "İSTANBU", "ſſſſſſſ", "%n", "NaN", "None",
]  # fmt: skip
SHAPES = [
    '{}', '[]', 'null', '1', '"x"', '{"shapes": null}', '{"shapes": [null]}', '{"shapes": [{"points": null}]}',
    '{"shapes": {"0": 1}}', '{"shapes": [[]]}', '{"shapes": [{"points": [[1,2],[3,4],[5,6]]}]}', '{', '', '\x00',
    '[' * 100_000, '{"a":' * 100_000, '{"shapes": [{"points": [[1,2],[3,4],[5,6],["a","b"]]}]}',
]  # fmt: skip


def labelme_files() -> Iterator[str]:
    "What may stand in a labelme file"
    yield from SHAPES
    for n in NUMBERS:
        for x, y, width in ((n, 25, 70), (1, n, 70), (1, 25, n)):
            points = f"[[{x},1],[60,1],[60,{y}],[2,25]]"
            yield f'{{"shapes": [{{"points": {points}}}], "imageWidth": {width}, "imageHeight": 28}}'


def tables(picture: str) -> Iterator[bytes]:
    "labels.csv: one cell of a good line is not what it should be"
    good = {"image_path": picture, "plate_text": "ABC1234", "layout": "brazilian", "split": "train", "track": "t"}
    good |= {"corners": "1,1 60,1 60,25 2,25"}
    for column in good:
        for text in TEXTS:
            row = {**good, column: text}
            cells = ('"' + v.replace('"', '""') + '"' for v in row.values())
            yield (",".join(good) + "\n" + ",".join(cells) + "\n").encode("utf-8", "surrogateescape")
    for n in NUMBERS:
        for corners in (f"{n},1 60,1 60,25 2,25", f"1,1 60,1 60,{n} 2,25"):
            row = {**good, "corners": corners}
            cells = ('"' + v.replace('"', '""') + '"' for v in row.values())
            yield (",".join(good) + "\n" + ",".join(cells) + "\n").encode()
    yield from (
        b"",
        b"\x00",
        b"\xff\xfe",
        b'"',
        b"image_path\n",
        b"plate_text,image_path",
        b"a," * 100_000,
        b"\n" * 1000,
    )
    yield from (
        b"image_path,plate_text\n" + b'"' * 999,
        b"image_path,image_path,plate_text\na,b,c\n",
        b"\x1b[2J,\x1b[31m\n1,2\n",
    )


SETTINGS = [
    "[]", "null", "1", "text", "{", "\x00", "a: b: c", "&a [*a]", "- 1", "!!python/object/apply:os.system ['true']",
    "{" * 5000, "[" * 5000, "model: null", "model: 1", "model: [1]", "model: {num_channels: .nan}",
    "model: {num_channels: .inf}", "model: {num_channels: 1e300}", "model: {num_channels: 99999999999999999999999}",
    "model: {evil\x1b[2J: 1}", 'model: {"evil\\u001b[2J": 1}', 'model: {"a\\nb": 1}',
    'data: {severity: "heavy\\e[2J"}', "data: {severity: heavy}", "data: {layouts: []}",
    'data: {layouts: ["\\e[2J"]}', 'data: {layouts: ["\\0.yaml"]}', 'data: {data_root: "\\0"}',
    'data: {data_root: "\\e[2J"}', "data: {data_root: /dev/zero}", "data: {num_train: -1}",
    "data: {layouts: [/dev/zero.yaml]}", "training: {batch_size: 0}", "training: {start_from: /dev/zero}",
    'training: {start_from: "\\e[2J"}', "training: {precision: fp16}",
    "progressive_training: {stage1: {learning_rate: .nan}}",
    "progressive_training: {stage1: {learning_rate: .inf}}", "progressive_training: {stage1: {epochs: 1e9}}",
    "loss: {extra: {nothing: 1}}", 'loss: {extra: {"\\e[2J": 1}}', "loss: {lambda_embed: .nan}",
    "model: {recognizer: {layouts: {'../../x': LLL}}}", "model: {recognizer: {layouts: {a: '\\e'}}}",
    "model: {generator: '${oc.env:HOME}'}", "x: " + "y" * 100_000, "a: &a [1,2]\nb: &b [*a,*a]\nc: &c [*b,*b]",
    "\ufeff", "%YAML 9.9\n---\n{}", "? [1]\n: 2", "1: 2", "true: 1", "model:\n\tnum_channels: 1",
]  # fmt: skip


def notes() -> Iterator[tuple[str, Callable[[dict], object]]]:
    "What may stand in the note of weights: a name, and what is done to a good note"
    nested: object = 1
    for _ in range(900):
        nested = [nested]
    for bad in (None, 1, "a: 1", [], [1], nested, True, "\x1b[2J", float("nan"), float("inf"), 10**400):
        for key in ("model", "calibration", "kind", "tracks"):
            yield f"{key} {str(bad)[:20]!r}", lambda note, key=key, bad=bad: note.__setitem__(key, bad)
        yield (
            f"layouts {str(bad)[:20]!r}",
            lambda note, bad=bad: note["model"]["recognizer"].__setitem__("layouts", bad),
        )
        yield f"channels {str(bad)[:20]!r}", lambda note, bad=bad: note["model"].__setitem__("num_channels", bad)
    many = {f"x{i}": "LLL" for i in range(100_000)}
    yield "100,000 layouts", lambda note: note["model"]["recognizer"].__setitem__("layouts", many)
    yield "escape codes", lambda note: note["model"]["recognizer"].__setitem__("layouts", {"\x1b[2J": "LLL"})
    yield "no note", lambda note: note.clear()


def header_of(path: Path) -> tuple[dict, bytes]:
    "Of a safetensors file: its header, and what follows"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_note(source: Path, path: Path, note: object) -> Path:  # `path`
    "Weights with another note"
    header, rest = header_of(source)
    header["__metadata__"]["note"] = note if isinstance(note, str) else json.dumps(note)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + rest)
    return path
