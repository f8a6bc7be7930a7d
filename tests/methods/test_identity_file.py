from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tenth.core.errors import IdentityError
from tenth.core.files.tensors import read_tensors
from tenth.core.types import Identity
from tenth.methods.identity_file import load_identity, photos_note, read_identity_metadata, save_identity

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


CONTEXT = {"latents.0": torch.randn(4, 6, 5, dtype=torch.bfloat16), "latents.1": torch.randn(4, 2, 2)}
WITH_PHOTOS = Identity("photos-in-context", "m@1", "", "", photos=("ab", "cd"), context=CONTEXT)


def test_photos_in_context_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    save_identity(WITH_PHOTOS, path, with_photos=True)
    read = load_identity(path)
    assert read.context.keys() == CONTEXT.keys()
    for name, tensor in CONTEXT.items():
        assert read.context[name].dtype == tensor.dtype
        assert torch.equal(read.context[name], tensor)
    assert read.fingerprint == WITH_PHOTOS.fingerprint != replace(WITH_PHOTOS, context={"latents.0": torch.ones(1)}).fingerprint
    assert (read.embeddings, read.weights, read.photos) == (None, {}, ("ab", "cd"))
    save_identity(read, tmp_path / "again", with_photos=True)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_weights_and_photos_stand_side_by_side(tmp_path: Path) -> None:
    both = replace(WITH_PHOTOS, weights=IDENTITY.weights, trigger_phrase="sks")
    save_identity(both, tmp_path / "me.safetensors", with_photos=True)
    assert load_identity(tmp_path / "me.safetensors").fingerprint == both.fingerprint


def test_photos_are_only_in_a_file_that_was_asked_to_hold_them(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"contains the photos.*Add --with-photos"):
        save_identity(WITH_PHOTOS, tmp_path / "me.safetensors")
    assert list(tmp_path.iterdir()) == []
    save_identity(IDENTITY, tmp_path / "me.safetensors", with_photos=True)
    assert not read_identity_metadata(tmp_path / "me.safetensors").contains_photos
    assert b"biometric data of a person" in (tmp_path / "me.safetensors").read_bytes()


def test_a_file_says_that_it_contains_photos(tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    save_identity(WITH_PHOTOS, path, with_photos=True)
    assert read_identity_metadata(path).contains_photos
    assert b"photos of a person, which can be seen again; biometric data" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert photos_note(load_identity(path), path)[0].startswith("me.safetensors contains photos")
    assert photos_note(IDENTITY, path) == ()


@pytest.mark.parametrize(("said", "held"), [(True, {}), (False, CONTEXT)])
def test_a_file_that_says_otherwise_than_it_holds_is_refused(said: bool, held: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    save_identity(WITH_PHOTOS, path, with_photos=True)
    metadata, _ = read_tensors(path)
    fields = json.loads(metadata["tenth"]) | {"contains_photos": said}
    tensors = {"embeddings": torch.zeros(1, 8)} | {f"context.{name}": tensor for name, tensor in held.items()}
    save_file(tensors, path, {"tenth": json.dumps(fields)})
    with pytest.raises(IdentityError, match="says otherwise"):
        load_identity(path)


def test_photos_of_no_or_endless_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.methods.identity_file.MAX_CONTEXT_VALUES", 100)
    for name, context in {"empty": {"latents.0": torch.zeros(4, 0, 2)}, "large": {"latents.0": torch.zeros(101)}}.items():
        save_identity(replace(WITH_PHOTOS, context=context), tmp_path / name, with_photos=True)
        with pytest.raises(IdentityError, match="has photos of"):
            load_identity(tmp_path / name)
