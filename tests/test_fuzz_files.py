"""Mutated files of every kind that is read: each is read, or refused in a line, soon and in little memory.

A flipped bit, a lost end, a value of another type, a shape of 2**62, ten thousand brackets: what a failing disk, another
program or somebody with bad intent makes of a file. What a hub sends and the lock beside the models: test_fuzz_hub.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save

from mutations import json_mutations, mutations, tensor_mutations, toml_mutations
from tally import SEED, TIMES, Tally, tally_inputs
from tenth.core.cache import ArrayCache
from tenth.core.config import from_table, read_toml
from tenth.core.run_record import read_record, write_record
from tenth.core.types import Identity
from tenth.data.captions.attributes import COLUMNS, read_attributes
from tenth.data.captions.sidecar_files import read_caption
from tenth.data.manifest import ManifestEntry, read_manifest, write_manifest
from tenth.evaluation.extractors.recognizer_config import read_recognizer_config
from tenth.experiments.costs import Cost, append_cost, summarize_costs
from tenth.experiments.generation.png_settings import read_png_settings
from tenth.experiments.output_folders import ensure_writable_folder
from tenth.experiments.runner import read_experiment
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import method
from tenth.models.adapters.ip_adapter import load_ip_adapter, validate_ip_adapter
from tenth.models.adapters.lora_layouts import to_diffusers_layout, to_kohya_layout
from tenth.models.aggregators.checkpoint import load_aggregator
from tenth.models.pocket.loader import load_pocket
from tenth.reporting.html.page import page
from tenth.reporting.markdown import markdown, summary
from tenth.training.checkpoint import MANIFEST_FILE, TENSORS_FILE, load_checkpoint, save_checkpoint
from tenth.training.monitoring import read_history
from tenth.training.registry import stage

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("quick-test", "smoke-attention", "pocket-diffusion-3", "dreambooth-lora-woman")
RECOGNIZER = """
name = "mine"
model = "mine.onnx"
sha256 = "%s"
input = "face"
output = "embedding"
size = [96, 112]
mean = 127.5
scale = 128.0
template = [[30.3, 51.7], [65.5, 51.5], [48.0, 71.7], [33.5, 92.4], [62.7, 92.2]]
[detector]
type = "dlib"
""" % ("0" * 64)


def fuzz(tally: Tally, path: Path, changed: Iterator[bytes], read: Callable[[Path], Any]) -> None:
    """Read each version of a file in the sound one's place."""
    for number, content in enumerate(changed):
        path.write_bytes(content)
        tally.attempt(f"{path.name}, version {number}", lambda: read(path))


def of_bytes(content: bytes, count: int) -> Iterator[bytes]:
    return mutations(content, SEED + 1, count * TIMES)


def of_tensors(content: bytes, count: int) -> Iterator[bytes]:
    return chain(of_bytes(content, count), tensor_mutations(content, SEED + 2, count * TIMES))


def of_json(value: Any, count: int) -> Iterator[bytes]:
    return chain(of_bytes(json.dumps(value).encode(), count), json_mutations(value, SEED + 3, count * TIMES))


def of_toml(content: bytes, count: int) -> Iterator[bytes]:
    return chain(of_bytes(content, count), toml_mutations(content, SEED + 4, count * TIMES))


def test_identities(toy_model: Any, tmp_path: Path) -> None:
    path, layer = tmp_path / "me.safetensors", "unet.mid_block.attentions.0.proj_in"
    shape = toy_model.pipeline.unet.get_parameter(layer.removeprefix("unet.") + ".weight").shape
    halves = {"lora_A": torch.rand(4, *shape[1:]), "lora_B": torch.rand(shape[0], 4, *[1] * len(shape[2:]))}
    weights = {f"{layer}.{half}.weight": tensor for half, tensor in halves.items()}
    names = toy_model.name, toy_model.encoder.name, toy_model.adapter_name
    save_identity(Identity("ip-adapter", *names, torch.rand(2, 128), weights, "sks man", ("ab", "cd")), path)

    def read(path: Path) -> None:
        found = load_identity(path)
        if found.weights:
            to_diffusers_layout(found.weights), to_kohya_layout(found.weights)
        with toy_model.applied([found]):
            pass

    read(path)
    with tally_inputs("identities") as tally:
        fuzz(tally, path, of_tensors(path.read_bytes(), 200), read)


def test_adapters(toy_model: Any, toy_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"

    def read(path: Path) -> None:
        validate_ip_adapter(toy_model.pipeline.unet, load_ip_adapter(path), toy_model.encoder, path)

    with tally_inputs("adapters") as tally:
        fuzz(tally, path, of_tensors((toy_folder / "ip-adapter/ip-adapter.safetensors").read_bytes(), 150), read)


@pytest.mark.parametrize("name", ["ip-adapter-attention", "ip-adapter-set"])
def test_aggregators(name: str, toy_folder: Path, tmp_path: Path) -> None:
    sound = (toy_folder / name / "aggregator.safetensors").read_bytes()

    def read(path: Path) -> None:
        load_aggregator(path).aggregator.pool(torch.rand(3, 128, dtype=torch.float64))

    with tally_inputs(f"aggregators, {name}") as tally:
        fuzz(tally, tmp_path / "aggregator.safetensors", of_tensors(sound, 150), read)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, tmp_path: Path) -> None:
    def read(path: Path) -> Any:
        if "dreambooth" in name:
            return method(str(path))
        if "test" in name:
            return read_experiment(path)
        table = read_toml(path)
        return from_table(stage(table).recipe, table)

    with tally_inputs(f"recipes, {name}") as tally:
        fuzz(tally, tmp_path / "recipe.toml", of_toml((ROOT / f"recipes/{name}.toml").read_bytes(), 150), read)


def test_records_of_experiments(tmp_path: Path) -> None:
    record = json.loads((ROOT / "results/quick-test/run.json").read_text())
    for key in ("scores", "differences"):  # one metric: a page of all is made in a second
        record["results"][key] = [row for row in record["results"][key] if row["metric"] in ("identity", "copy-index")]
    record["results"]["people"] = record["results"]["people"][:3]

    def read(path: Path) -> None:
        found = read_record(path, command="experiment")
        page(found, path.parent), markdown(found), summary(found)

    with tally_inputs("records of experiments") as tally:
        fuzz(tally, tmp_path / "run.json", of_json(record, 100), read)


def test_records_of_images(tmp_path: Path) -> None:
    path = tmp_path / "out/run.json"
    write_record(path, command="generate", settings={"seeds": [0, 1], "model": "m@1"}, results={"images": ["0000.png"]})
    with tally_inputs("records of pictures") as tally:
        fuzz(tally, path, of_json(json.loads(path.read_text()), 200), lambda path: ensure_writable_folder(path.parent))


def test_people(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    row = ManifestEntry("Anna/1.jpg", "Anna", "train", 1, "a photo of a woman", ("a photo of a woman", "a portrait"), "0" * 64)
    write_manifest(path, [row, ManifestEntry("Bo/1.jpg", "Bo", "test", 0, "a man", ("a man",), "1" * 64)])
    with tally_inputs("people.jsonl") as tally:
        fuzz(tally, path, of_bytes(path.read_bytes(), 300), read_manifest)
        fuzz(tally, path, json_mutations(asdict(row), SEED, 300 * TIMES), read_manifest)


def test_entries_of_the_cache(tmp_path: Path) -> None:
    store, sound = ArrayCache(tmp_path), np.arange(64.0)
    store.write("s", "key", sound)
    path = store.path("s", "key")
    whole = path.read_bytes()
    with tally_inputs("entries of the cache") as tally:
        for number, content in enumerate(of_bytes(whole, 600)):
            path.write_bytes(content)
            found = tally.attempt(f"version {number}", lambda: store.read("s", "key"))
            tally.check(f"version {number} was taken", found is None or (content == whole and np.array_equal(found, sound)))


def test_settings_in_images(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    said = {
        "prompt": "a man",
        "seed": 3,
        "steps": 20,
        "guidance_scale": 2.0,
        "ip_adapter_scale": {"up": {"block_0": [0, 1, 0]}},
        "negative_prompt": "",
    }
    said |= {"model": "m@1", "size": "64x64", "strength": 0.3, "guidance_interval": [0.0, 1.0], "method": "ip-adapter"}

    def picture(text: bytes) -> bytes:
        info = PngImagePlugin.PngInfo()
        info.add(b"tEXt", b"tenth\0" + text)
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
        return path.read_bytes()

    picture(json.dumps(said).encode())
    assert read_png_settings(path).seed == 3
    with tally_inputs("settings in pictures") as tally:
        fuzz(tally, path, map(picture, json_mutations(said, SEED, 250 * TIMES)), read_png_settings)
        fuzz(tally, path, of_bytes(picture(json.dumps(said).encode()), 350), read_png_settings)


def test_tables_captions_and_recognizers(tmp_path: Path) -> None:
    table = f"{','.join(COLUMNS)}\nAnna/1.jpg,F{',1' * (len(COLUMNS) - 2)}\n".encode()
    published = (ROOT / "tests/data/test_attributes.py").read_bytes()  # any text, with its sign at the beginning
    with tally_inputs("attribute tables, captions, recognizers") as tally:
        fuzz(tally, tmp_path / "a.csv", of_bytes(table, 100), read_attributes)
        fuzz(tally, tmp_path / "b.txt", of_bytes(b"#\tperson\timagenum\tMale\n" + published[:2000], 100), read_attributes)
        fuzz(tally, tmp_path / "c.txt", of_bytes(b"a photo of a man\na man\n", 200), read_caption)
        fuzz(tally, tmp_path / "d.toml", of_toml(RECOGNIZER.encode(), 200), read_recognizer_config)


def test_checkpoints_and_their_histories(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 3, {"weight.a": torch.rand(3, 4), "step.a": torch.tensor(3)})
    manifest, tensors = json.loads((folder / MANIFEST_FILE).read_text()), (folder / TENSORS_FILE).read_bytes()
    history, costs = {"images": 64, "similarity": 0.3, "low": 0.1, "high": 0.4, "best": True}, tmp_path / "costs.jsonl"
    append_cost(costs, Cost(1.5, 300), task="images", method="ip-adapter", count=4)
    with tally_inputs("checkpoints, histories, costs") as tally:
        fuzz(tally, folder / MANIFEST_FILE, of_json(manifest, 100), lambda _: load_checkpoint(tmp_path))
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
        fuzz(tally, folder / TENSORS_FILE, of_tensors(tensors, 100), lambda _: load_checkpoint(tmp_path))
        fuzz(tally, tmp_path / "validation.jsonl", of_json(history, 100), lambda _: read_history(tmp_path))
        fuzz(tally, costs, of_json(json.loads(costs.read_text()), 100), lambda path: summarize_costs(path, "images"))


@pytest.mark.slow
def test_configurations_of_models(toy_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toy_folder, tmp_path / "model"))
    sound = {path: path.read_bytes() for path in sorted(copy.rglob("*.json")) if path.name != "vocab.json"}
    with tally_inputs("configurations of models") as tally:
        for path, content in sound.items():
            fuzz(tally, path, json_mutations(json.loads(content), SEED, 4 * TIMES), lambda _: load_pocket(copy))
            path.write_bytes(content)


@pytest.mark.slow
def test_weights_of_models(toy_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toy_folder, tmp_path / "model"))
    statistics = save({"centre": torch.rand(128), "scale": torch.tensor(0.1)})
    with tally_inputs("weights of models") as tally:
        fuzz(tally, copy / "image_encoder/statistics.safetensors", of_tensors(statistics, 2), lambda _: load_pocket(copy))
        (copy / "image_encoder/statistics.safetensors").write_bytes(statistics)
        for name in ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
            content = (copy / name).read_bytes()
            fuzz(tally, copy / name, of_tensors(content, 2), lambda _: load_pocket(copy))
            (copy / name).write_bytes(content)
