from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenth.data.face_crops import People
from tenth.data.manifest import Row, write_rows
from tenth.experiments import images as pictures
from tenth.experiments import judges as readers
from tenth.experiments import runner as experiment
from tenth.experiments.recipe import ExperimentRecipe
from tenth.sampling.config import Sampling
from toy_people import NAMES, PHOTOS, Colours, digest, held_out_photos, located


@pytest.fixture
def recipe(tmp_path: Path, toy_model: Any, monkeypatch: pytest.MonkeyPatch) -> ExperimentRecipe:
    rows = [
        Row(f"{name}/{name}_{photo:04}.jpg", name, "validation", 1, "a photo", ("a photo",), digest(person, photo))
        for person, name in enumerate(NAMES)
        for photo in range(PHOTOS)
    ]
    write_rows(tmp_path / "people.jsonl", rows)
    monkeypatch.setenv("TENTH_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(People, "located", located)
    monkeypatch.setattr(experiment, "load_model", lambda *_, **__: toy_model)
    monkeypatch.setattr(readers, "open_recogniser", Colours)
    monkeypatch.setattr(readers, "DlibRecogniser", Colours)
    return ExperimentRecipe(
        data=People(tmp_path / "people.jsonl", tmp_path),
        split="validation",
        methods=("ip-adapter", "ip-adapter-avg"),
        images=2,
        references=3,
        judge=tmp_path / "judge.toml",
        sampling=Sampling(steps=1),
    )


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "generate", held_out_photos)
