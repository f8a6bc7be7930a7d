from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tenth.core.errors import IdentityError
from tenth.core.types import Identity
from tenth.methods.identity_file import load_identity, save_identity

IDENTITY = Identity(
    "ip-adapter-avg", "m@1", "e@2", "a@3", torch.randn(1, 8), {"unet.up.weight.diff": torch.randn(2, 2)}, "sks", ("ab", "cd")
)


def test_round_trip(tmp_path: Path) -> None:
    save_identity(IDENTITY, tmp_path / "me.safetensors")
    read = load_identity(tmp_path / "me.safetensors")
    assert (read.method, read.model, read.encoder, read.adapter) == ("ip-adapter-avg", "m@1", "e@2", "a@3")
    assert (read.trigger_phrase, read.photos) == ("sks", ("ab", "cd"))
    assert read.embeddings is not None
    assert IDENTITY.embeddings is not None
    assert torch.equal(read.embeddings, IDENTITY.embeddings)
    assert torch.equal(read.weights["unet.up.weight.diff"], IDENTITY.weights["unet.up.weight.diff"])


def test_the_same_identity_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_identity(IDENTITY, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kept", [0, 4, 8, 60, -1])
def test_truncated_files_are_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "me.safetensors"
    save_identity(IDENTITY, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(IdentityError, match="damaged or not safetensors"):
        load_identity(path)


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(tmp_path / "sprung"), "w")  # type: ignore[return-value]

    path = tmp_path / "me.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(IdentityError, match="not safetensors"):
        load_identity(path)
    assert not (tmp_path / "sprung").exists()


def test_foreign_and_newer_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"embeddings": torch.zeros(1, 8)}, tmp_path / "foreign.safetensors")
    with pytest.raises(IdentityError, match="another program's"):
        load_identity(tmp_path / "foreign.safetensors")
    monkeypatch.setattr("tenth.methods.identity_file.FORMAT", 2)
    save_identity(IDENTITY, tmp_path / "newer.safetensors")
    monkeypatch.undo()
    with pytest.raises(IdentityError, match="has format 2, this version reads 1"):
        load_identity(tmp_path / "newer.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": torch.zeros(8)}, r"shape \(8,\)"),
        ({"embeddings": None, "weights": {}}, "neither embeddings nor weights"),
    ],
)
def test_identities_without_sense_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    save_identity(replace(IDENTITY, **change), tmp_path / "me.safetensors")
    with pytest.raises(IdentityError, match=message):
        load_identity(tmp_path / "me.safetensors")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="is not a file"):
        load_identity(tmp_path / "none.safetensors")
