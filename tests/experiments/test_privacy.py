"""What a person can be known by is for its owner alone, whatever others may read of what this user writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.cache import ArrayCache
from tenth.core.types import Identity, Person, Photo
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.export import export_comfyui, export_lora
from tenth.methods.identity_file import save_identity
from tenth.models.pocket.loader import load_pocket
from toy_dreambooth import SETTINGS


@pytest.fixture(autouse=True)
def everybody_may_read() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_identities_and_what_they_are_exported_to(tmp_path: Path) -> None:
    identity = Identity("ip-adapter", "m@1", "clip-vit@2", "a@3", torch.ones(1, 4))
    (tmp_path / "old.safetensors").touch()
    for path in (tmp_path / "new.safetensors", tmp_path / "old.safetensors"):
        save_identity(identity, path)
        assert mode(path) == 0o600
    export_comfyui(identity, tmp_path / "me.ipadpt")
    matrices = {f"unet.mid_block.attentions.0.{part}": torch.ones(2, 2) for part in ("lora_A.weight", "lora_B.weight")}
    export_lora(replace(identity, embeddings=None, weights=matrices), tmp_path / "lora.safetensors")
    assert mode(tmp_path / "me.ipadpt") == mode(tmp_path / "lora.safetensors") == 0o600


def test_a_store_that_is_made_and_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    for name in ("own", "shared"):
        ArrayCache(tmp_path / name).write("space", "key", np.ones(1))
    assert mode(tmp_path / "own") == 0o700
    assert mode(tmp_path / "shared") == 0o777  # others may use it, as whoever made it meant


def test_what_dreambooth_keeps_of_a_run(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    model: Any = load_pocket(toy_folder, name="toy")
    photos = tuple(Photo(np.full((40, 30, 3), shade, np.uint8), f"{shade:064x}") for shade in (1, 2))
    method, person = DreamBooth("dreambooth-lora", SETTINGS), Person("anna", photos)
    learnt = method(person, model).identity
    (folder,) = (tmp_path / "dreambooth").iterdir()
    assert mode(folder) == 0o700
    assert mode(folder / "trained.safetensors") == 0o600
    (folder / "step-00000009").mkdir()  # as a kill between the last two writes leaves it
    again = method(person, model).identity
    assert {path.name for path in folder.iterdir()} == {"photos.json", "trained.safetensors", "tensorboard"}
    assert all(torch.equal(value, again.weights[name]) for name, value in learnt.weights.items())
