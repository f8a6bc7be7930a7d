"""Checkpoints that survive a kill at any moment: written whole under a temporary name, flushed to the disk, then renamed.

A checkpoint is a folder `step-00001234` with `tensors.safetensors` and `manifest.json` (step and sha256 of the tensors,
written last). No pickle is read or written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenth.data.faces import file_digest
from tenth.errors import CheckpointError

KEPT = 2  # newest checkpoints that stay: one may be damaged after it was written


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name at a step; skipped: what was wrong with newer checkpoints that were passed over."""

    step: int
    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...] = ()


def save_checkpoint(directory: Path, step: int, tensors: Mapping[str, Tensor]) -> Path:
    """Write `directory/step-XXXXXXXX` atomically and remove all but the KEPT newest. Returns its path."""
    final = directory / f"step-{step:08d}"
    partial = directory / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial / "tensors.safetensors")
        digest = file_digest(partial / "tensors.safetensors")
        (partial / "manifest.json").write_text(json.dumps({"sha256": digest, "step": step}, sort_keys=True) + "\n")
        for name in ("tensors.safetensors", "manifest.json", "."):
            _flush(partial / name)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _flush(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in _checkpoints(directory)[KEPT:]:
        shutil.rmtree(old)
    return final


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest checkpoint whose hash is right, or None where there is no checkpoint at all.

    Raises CheckpointError if there are some and every one is damaged.
    """
    skipped: list[str] = []
    for folder in _checkpoints(directory):
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if file_digest(folder / "tensors.safetensors") != manifest["sha256"]:
                raise ValueError("its sha256 is not the manifest's")
            return Checkpoint(int(manifest["step"]), load_file(folder / "tensors.safetensors"), tuple(skipped))
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as problem:
            skipped.append(f"{folder.name} skipped: {problem}")
    if skipped:
        raise CheckpointError(
            "; ".join(skipped), "one whole checkpoint is needed to resume", "Start again in an empty directory"
        )
    return None


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-????????"), reverse=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
