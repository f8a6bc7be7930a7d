from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenth.checkpoint import load_checkpoint, save_checkpoint
from tenth.errors import CheckpointError


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"weight.a": torch.full((3, 4), value), "step.a": torch.tensor(value)}


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    written = {"a": torch.randn(5, 7), "b": torch.randn(3).bfloat16()}
    save_checkpoint(tmp_path, 12, written)
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 12
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in written.items())


def test_two_newest_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, tensors(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_flipped_byte_is_named_and_the_previous_used(tmp_path: Path, place: int) -> None:
    save_checkpoint(tmp_path, 1, tensors(1))
    newest = save_checkpoint(tmp_path, 2, tensors(2)) / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[place] ^= 1
    newest.write_bytes(content)
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 1
    assert "step-00000002" in read.skipped[0]


def test_missing_manifest_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, tensors(1))
    (save_checkpoint(tmp_path, 2, tensors(2)) / "manifest.json").unlink()
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 1


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, 1, tensors(1)) / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="step-00000001"):
        load_checkpoint(tmp_path)


def test_failed_save_leaves_the_previous_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, tensors(1))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tenth.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, tensors(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_empty_directory_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
