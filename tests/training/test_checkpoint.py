from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fresh import Fresh
from tenth.core.errors import CheckpointError
from tenth.training.checkpoint import exclusive_run, load_checkpoint, save_checkpoint


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

    monkeypatch.setattr("tenth.core.files.writing.os.fsync", full)
    with pytest.raises(CheckpointError, match=r"No space.*step-00000001.*--resume"):
        save_checkpoint(tmp_path, 2, tensors(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_empty_directory_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from tenth.training.checkpoint import save_checkpoint
save_checkpoint(Path(sys.argv[1]), 1, {"a": torch.zeros(1000)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save_checkpoint(Path(sys.argv[1]), 2, {"a": torch.zeros(1_000_000)})
"""


def test_a_disk_that_refuses_is_named_and_the_previous_stays(fresh: Fresh, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run"
    (tmp_path / "full.py").write_text(FULL)
    done = fresh.script(tmp_path / "full.py", checkpoints, at=tmp_path)
    assert "CheckpointError: the checkpoint of step 2 cannot be written" in done.err
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000001"]
    read = load_checkpoint(checkpoints)
    assert read is not None
    assert torch.equal(read.tensors["a"], torch.zeros(1000))


@pytest.mark.parametrize("wrong", ['{"sha256": 3}', "", "[]", '{"step": 2}', '{"sha256": "DIGEST", "step": 3}'])
def test_a_damaged_manifest_is_passed_over(tmp_path: Path, wrong: str) -> None:
    save_checkpoint(tmp_path, 1, tensors(1))
    manifest = save_checkpoint(tmp_path, 2, tensors(2)) / "manifest.json"
    manifest.write_text(wrong.replace("DIGEST", json.loads(manifest.read_text())["sha256"]))
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 1
    assert "step-00000002 skipped" in read.skipped[0]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, tensors(1))
    (tmp_path / ".step-00000002.0123456789abcdef.part").mkdir()
    with exclusive_run(tmp_path, True):
        assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
