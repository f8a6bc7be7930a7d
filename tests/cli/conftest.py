"""What several tests of the command line need."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tenth.core.types import Identity
from tenth.methods.identity_file import save_identity
from tenth.models.registry import load_model


@pytest.fixture(scope="module")
def identity_file(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An identity for the toy model, made of no photo."""
    model = load_model(str(toy_folder))
    made = Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, torch.ones(1, 128), photos=("0" * 64,))
    path = tmp_path_factory.mktemp("identity") / "me.safetensors"
    save_identity(made, path)
    return path


@pytest.fixture
def me_and_another(
    face_photos: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder `me` of three photos, another one beside it, nobody saved; the working directory."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setenv("TENTH_PEOPLE_DIR", str(tmp_path / "people"))
    monkeypatch.chdir(tmp_path)
    Path("me").mkdir()
    for photo in face_photos[:3]:
        shutil.copy(photo, "me")
    shutil.copy(face_photos[3], "extra.png")
