"""What several tests of the command line need."""

from __future__ import annotations

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
