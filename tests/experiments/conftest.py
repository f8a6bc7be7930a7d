from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenth.core.cache import ArrayCache
from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.experiments import images as pictures
from tenth.experiments import recognizers
from tenth.experiments import runner as experiment
from tenth.experiments.recipe import DLIB, ExperimentRecipe
from tenth.sampling.config import SamplingConfig
from toy_people import NAMES, PHOTOS, ColorRecognizer, digest, generate_held_out_photos, open_toy_photo


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> ArrayCache:
    """Descriptors of the toy people's faces, each computed once: a tenth of a second."""
    return ArrayCache(tmp_path_factory.mktemp("descriptors"))


@pytest.fixture(scope="module", autouse=True)
def cached_descriptors(toy_model: Any, descriptors: ArrayCache) -> Iterator[None]:
    toy_model.encoder.cache = descriptors
    yield
    toy_model.encoder.cache = None


@pytest.fixture
def recipe(tmp_path: Path, toy_model: Any, monkeypatch: pytest.MonkeyPatch) -> ExperimentRecipe:
    rows = [
        ManifestEntry(f"{name}/{name}_{photo:04}.jpg", name, "validation", 1, "a photo", ("a photo",), digest(person, photo))
        for person, name in enumerate(NAMES)
        for photo in range(PHOTOS)
    ]
    write_manifest(tmp_path / "people.jsonl", rows)
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(PhotoDataset, "open_with_central_face", open_toy_photo)
    monkeypatch.setattr(experiment, "load_model", lambda *_, **__: toy_model)
    monkeypatch.setattr(recognizers, "load_recognizer", ColorRecognizer)
    monkeypatch.setattr(recognizers, "DlibRecognizer", ColorRecognizer)
    return ExperimentRecipe(
        data=PhotoDataset(tmp_path / "people.jsonl", tmp_path),
        split="validation",
        methods=("ip-adapter", "ip-adapter-avg"),
        images=2,
        references=3,
        recognizers=(tmp_path / "recognizer.toml", DLIB),
        sampling=SamplingConfig(steps=1),
    )


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "generate", generate_held_out_photos)
