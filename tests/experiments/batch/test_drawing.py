"""The rows of a shard drawn by a model: each as `tenth generate` draws it, a person read once, a bad row alone."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.verify import MarkState, verify
from tenth.evaluation.extractors.loading import NetworkSources
from tenth.experiments.batch import drawing
from tenth.experiments.batch.drawing import ModelDrawer
from tenth.experiments.batch.features import METADATA_KEY, FeatureCollector, load_extractors
from tenth.experiments.batch.rows import BatchRow, parse_rows
from tenth.experiments.batch.run import BatchSettings, run_batch
from tenth.experiments.batch.shards import iterate_samples
from tenth.experiments.batch.store import open_store
from tenth.experiments.generation.run import generate_images
from tenth.methods.identity_file import save_identity
from tenth.models.registry import load_model
from toy_drawing import random_identity

PROMPTS = ("a photo of a person", "a smiling woman with a hat", "an old man")


@pytest.fixture
def people(face_photos: list[Path], toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two people by their photos, one by an identity file, and one of whom there is none."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    for name, photos in (("anna", face_photos[:3]), ("bert", face_photos[3:5])):
        (tmp_path / "people" / name).mkdir(parents=True)
        for photo in photos:
            shutil.copy(photo, tmp_path / "people" / name)
    (tmp_path / "people" / "empty").mkdir()
    save_identity(random_identity(load_model(str(toy_folder))), tmp_path / "people" / "me.safetensors")
    return tmp_path / "people"


def rows_of(model: Path, *rows: dict[str, Any]) -> list[BatchRow]:
    base = {"prompt": PROMPTS[0], "model": str(model), "sampling": {"steps": 2}}
    made = [row for each in rows for row in parse_rows(base | each, "row")]
    return sorted(made, key=lambda row: row.sort_key)


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
def test_each_row_is_as_generate_draws_it(people: Path, toy_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(
        toy_folder,
        *({"person": name, "prompt": prompt, "seed": seed} for name in ("anna", "bert") for prompt in PROMPTS for seed in (5,)),
        {"person": "me.safetensors"},
        {"person": "anna", "size": 192, "negative_prompt": "a hat", "sampling": {"steps": 1, "scheduler": "euler"}},
        {"person": "anna", "method": "ip-adapter", "sampling": {"steps": 1}},
        {"person": "bert", "prompt": "a {tall|small} man", "seed": 3},
    )
    drawn, model = list(ModelDrawer(people)(rows)), load_model(str(toy_folder))
    assert [each.row for each in drawn] == rows
    for number, each in enumerate(drawn):
        assert each.error is None
        path = tmp_path / f"{number}.png"
        path.write_bytes(each.picture)
        person = drawing.read_person(people / each.row.person)
        (alone,) = generate_images(each.row.request, person, tmp_path / f"alone-{number}", model)
        assert np.abs(pixels(each.picture) - pixels(alone.read_bytes())).max() <= 1
        assert each.metadata["settings"] == read_sample(path) == read_sample(alone)
        assert verify(path).state == MarkState.MARKED
        assert len(each.metadata["photos"]) == {"anna": 3, "bert": 2}.get(each.row.person, 0) or each.row.method


@pytest.mark.slow
def test_a_person_is_read_once_and_a_model_loaded_once(people: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, loaded = [], []
    read_person, load_model = drawing.read_person, drawing.load_model
    monkeypatch.setattr(drawing, "read_person", lambda path: (read.append(path.name), read_person(path))[1])
    monkeypatch.setattr(drawing, "load_model", lambda *words, **more: (loaded.append(words), load_model(*words, **more))[1])
    drawer = ModelDrawer(people)
    rows = rows_of(toy_folder, *({"person": name, "seed": seed} for seed in range(3) for name in ("anna", "bert", "empty")))
    for _ in range(2):  # two shards
        assert sum(each.error is None for each in drawer(rows)) == 6
    assert read == ["anna", "bert", "empty"] * 2
    assert len(loaded) == 1


@pytest.mark.slow
def test_bad_rows_cost_themselves_alone(people: Path, toy_folder: Path) -> None:
    good = [{"person": "anna", "seed": seed} for seed in range(5)]
    bad: list[dict[str, Any]] = [
        {"person": "empty"},
        {"person": "nobody"},
        {"person": "anna", "size": 8192},
        {"person": "me.safetensors", "method": "ip-adapter"},
        {"person": "anna", "prompt": "a {tall man"},
        {"person": "anna", "prompt": "a __hat__"},
    ]
    (people / "pickle.safetensors").write_bytes(b"nonsense")
    rows = rows_of(toy_folder, *good, *bad, {"person": "pickle.safetensors"})
    drawn = list(ModelDrawer(people)(rows))
    found = {each.row.id: each.error.found for each in drawn if each.error is not None}
    assert len(found) == 7
    assert "nobody does not exist" in found.values()
    assert not any(str(people) in text for text in found.values())
    alone = {each.row.id: each.picture for each in ModelDrawer(people)(rows_of(toy_folder, *good))}
    assert alone == {each.row.id: each.picture for each in drawn if each.error is None}


@pytest.mark.slow
def test_a_window_does_not_change_what_is_in_it(people: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(toy_folder, *({"person": name, "seed": seed} for seed in range(4) for name in ("anna", "bert")))
    whole = [each.picture for each in ModelDrawer(people)(rows)]
    monkeypatch.setattr(drawing, "WINDOW_ROWS", 4)
    assert [each.picture for each in ModelDrawer(people)(rows)] == whole


@pytest.mark.slow
def test_webp_has_the_same_pixels_and_marks(people: Path, toy_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(toy_folder, {"person": "anna"}, {"person": "anna", "seed": 1})
    png, webp = list(ModelDrawer(people)(rows)), list(ModelDrawer(people, "webp")(rows))
    again = list(ModelDrawer(people, "webp")(rows))
    for one, other in zip(png, webp, strict=True):
        assert (pixels(one.picture) == pixels(other.picture)).all()
        (tmp_path / "one.webp").write_bytes(other.picture)
        assert verify(tmp_path / "one.webp").state == MarkState.MARKED
        assert other.metadata == one.metadata
    assert [each.picture for each in again] == [each.picture for each in webp]


@pytest.mark.slow
def test_features_lie_beside_the_pictures_in_their_order(people: Path, toy_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"person": f"people/{name}", "prompt": PROMPTS[0], "model": str(toy_folder), "seed": 0} for name in ("anna", "empty")
    ]
    rows += [rows[0] | {"seed": seed} for seed in range(1, 4)]
    plan = tmp_path / "plan.jsonl"
    plan.write_text("".join(f"{json.dumps(row | {'sampling': {'steps': 1}})}\n" for row in rows))
    settings = BatchSettings(features=True, inception="random:0")
    run_batch(plan, str(tmp_path / "out"), settings)
    store = open_store(str(tmp_path / "out"))
    content = store.read("shards/00000.features.safetensors")
    tensors = load(content)
    extractors = load_extractors("", NetworkSources("random:0"))
    pictures = [picture for _, picture, _ in iterate_samples(store, 0)]
    assert {name: each.shape for name, each in tensors.items()} == {"recognizer": (4, 128), "inception": (4, 3056)}
    for name, extractor in extractors.items():
        expected = extractor([pixels(picture).astype(np.uint8) for picture in pictures])
        assert np.array_equal(tensors[name], expected, equal_nan=True)
    assert json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"][METADATA_KEY].count("@") == 2
    assert load(FeatureCollector(extractors).to_bytes())["recognizer"].shape == (0, 128)
