"""What bad commands read: photos, files that are cut, deep, huge, foreign or no files at all, recipes, records, locks."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

SMOKE = Path(__file__).resolve().parents[1] / "recipes/smoke-attention.toml"
FEW = """split = 'validation'
methods = ['ip-adapter']
images = 1
references = 2
held_out = 2
[data]
people = 'people.jsonl'
photos = 'people'
"""
PLAN = "people = 'people'\nprompts = ['a photo']\n"
DEEP = 100_000


def write_materials(folder: Path, made: Path) -> None:
    """What the commands read, in an empty folder. made: an identity file."""
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
    for name in ("me", "empty", "texts", "devices", "folder.safetensors", "folder.toml", "people/anna", "people/bert"):
        (folder / name).mkdir(parents=True)
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / "me")
        shutil.copy(photo, folder / ("people/anna" if number < 5 else "people/bert"))
    shutil.copy(photos[0], folder / "me/photo.png")
    _write_odd_files(folder)
    _write_weights(folder, made.read_bytes())
    _write_recipes(folder)
    _write_records(folder)
    _write_pictures(folder, photos[0])


def _write_odd_files(folder: Path) -> None:
    (folder / "text.txt").write_text("a letter\n")
    for name in ("a.png", "b.jpg", "c.heic", "d"):
        (folder / "texts" / name).write_text("no picture\n")
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "fifo.safetensors")
    os.mkfifo(folder / "devices/a.jpg")
    for name in ("zero.safetensors", "devices/b.png"):
        (folder / name).symlink_to("/dev/zero")
    for name in ("loop", "loop.safetensors", "devices/c.png"):
        (folder / name).symlink_to(folder / name)
    (folder / "cut.tgz").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3abc")
    with tarfile.open(folder / "outside.tgz", "w:gz") as packed:
        for name in ("../outside", "/tmp/outside", "lfw/../../outside"):
            packed.addfile(tarfile.TarInfo(name), io.BytesIO())


def _write_weights(folder: Path, identity: bytes) -> None:
    (folder / "me.safetensors").write_bytes(identity)
    (folder / "cut.safetensors").write_bytes(identity[: len(identity) // 2])
    (folder / "garbage.safetensors").write_bytes(b"\xff" * 1_000)
    (folder / "empty.safetensors").write_bytes(b"")
    deep = b"[" * DEEP + b"]" * DEEP
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    with (folder / "sparse.safetensors").open("wb") as file:
        file.truncate(10 << 30)
    length = struct.unpack("<Q", identity[:8])[0]
    header, body = json.loads(identity[8 : 8 + length]), identity[8 + length :]
    texts = {name: text.replace("pocket@", "other@") for name, text in header["__metadata__"].items()}

    def packed(table: object, content: bytes) -> bytes:
        text = json.dumps(table).encode()
        return struct.pack("<Q", len(text)) + text + content

    (folder / "nan.safetensors").write_bytes(packed(header, b"\xff" * len(body)))
    (folder / "other-model.safetensors").write_bytes(packed(header | {"__metadata__": texts}, body))
    (folder / "other.safetensors").write_bytes(packed({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)))


def _write_recipes(folder: Path) -> None:
    smoke = SMOKE.read_text(encoding="utf-8")
    rows = [
        ManifestEntry(
            f"{path.parent.name}/{path.name}", path.parent.name, "validation", 1, "a photo", ("a photo",), f"{number:064x}"
        )
        for number, path in enumerate(sorted((folder / "people").rglob("*.png")))
    ]
    write_manifest(folder / "people.jsonl", rows)
    (folder / "deep.jsonl").write_text("[" * DEEP)
    (folder / "empty.jsonl").touch()
    (folder / "me.parquet").write_bytes(b"PAR1" * 100)
    texts = {
        "smoke": smoke,
        "empty": "",
        "cut": "stage = ",
        "deep": "a = " + "[" * DEEP + "]" * DEEP,
        "digits": "a = " + "9" * 5_000,
        "stage": smoke.replace('"adapter"', '"nonsense"'),
        "key": smoke + "nonsense = 1\n",
        "numbers": smoke.replace("3e-4", "nan").replace("1_600", "-5"),
        "types": smoke.replace("batch_size = 8", 'batch_size = ["x"]'),
        "few": FEW,
        "few-nowhere": FEW.replace("people.jsonl", "none.jsonl"),
        "few-people": FEW.replace("people.jsonl", "text.txt"),
        "few-deep": FEW.replace("people.jsonl", "deep.jsonl"),
        "few-methods": FEW.replace("'ip-adapter'", "'nonsense'"),
        "few-numbers": FEW.replace("images = 1", "images = -1").replace("references = 2", "references = 99999999999"),
        "few-types": FEW.replace("methods = ['ip-adapter']", "methods = 5"),
        "plan": PLAN,
        "plan-keys": PLAN + "nonsense = 1\n",
        "plan-nobody": PLAN.replace("'people'", "'none'"),
        "plan-seeds": PLAN + "seeds = ['x']\n",
        "plan-prompts": PLAN.replace("['a photo']", "'none.csv'"),
        "plan-method": PLAN + "method = 'nonsense'\n",
        "recognizer-types": 'name = 5\nsize = "x"\n',
        "recognizer-missing": 'name = "x"\nmodel = "none.onnx"\nsha256 = "' + "0" * 64 + '"\n',
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "latin.toml").write_bytes("a = 'ü'".encode("latin-1"))


def _write_records(folder: Path) -> None:
    (folder / "deep.json").write_text("[" * DEEP)
    (folder / "cut.json").write_text('{"kind": "experiment", ')
    (folder / "odd.json").write_text('{"kind": "experiment", "people": 5, "methods": {"a": []}}')
    (folder / "numbers.json").write_text('{"kind": "experiment", "people": ' + "9" * 5_000 + "}")
    for name in ("record", "record-deep", "record-odd"):
        (folder / name).mkdir()
        content = (folder / f"{name.partition('-')[2] or 'odd'}.json").read_text()
        (folder / name / "run.json").write_text(content)
    for name, text in (("deep", "[" * DEEP), ("odd", '{"format": 1, "models": {"sd15": {"files": {"../x": 5}}}}')):
        (folder / f"locks-{name}").mkdir()
        (folder / f"locks-{name}" / "models.lock").write_text(text)
    for name, text in (("half", '{"_class_name": "StableDiffusionPipeline"}'), ("deep", "[" * DEEP)):
        (folder / f"{name}-model").mkdir()
        (folder / f"{name}-model" / "model_index.json").write_text(text)
    (folder / "lfw/Ann_Nobody").mkdir(parents=True)


def _write_pictures(folder: Path, photo: Path) -> None:
    Image.new("RGB", (64, 64), "grey").save(folder / "plain.png")
    for name, text in (
        ("deep", "[" * DEEP + "]" * DEEP),
        ("odd", '{"prompt": 5, "seed": "x", "steps": -1, "guidance_scale": 1e999}'),
        ("huge", "x" * 3_000_000),
    ):
        info = PngInfo()
        for key in ("tenth", "parameters"):
            info.add_text(key, text, zip=True)
        Image.open(photo).save(folder / f"settings-{name}.png", pnginfo=info)
