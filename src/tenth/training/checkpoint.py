"""Checkpoints that survive a kill at any moment: written under a temporary name, flushed to disk, then renamed.

A checkpoint is a folder `step-00001234` with `tensors.safetensors` and `manifest.json` (step and sha256 of the tensors).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.reading import UnreadableError, read_json, reason, sha256_of
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import atomic_folder, explain_os_errors, write_json, write_tensors

TENSORS_FILE, MANIFEST_FILE = "tensors.safetensors", "manifest.json"
MAX_CHECKPOINTS = 2  # the newest ones that are kept: one may be damaged after it was written


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name at a step. skipped: why newer checkpoints were passed over, a sentence each."""

    step: int
    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...] = ()


def save_checkpoint(directory: Path, step: int, tensors: Mapping[str, Tensor]) -> Path:
    """Write `directory/step-XXXXXXXX` atomically, remove all but the MAX_CHECKPOINTS newest, and return its path.

    Raises CheckpointError if it cannot be written, such as on a full disk; earlier checkpoints are kept.
    """
    final = directory / f"step-{step:08d}"
    try:
        with atomic_folder(final) as folder:
            write_tensors(folder / TENSORS_FILE, tensors)
            manifest = {"sha256": sha256_of(folder / TENSORS_FILE), "step": step}
            write_json(folder / MANIFEST_FILE, manifest)
    except DataError as problem:
        cause = getattr(problem.__cause__, "strerror", None) or problem.__cause__
        megabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
        kept = ", ".join(folder.name for folder in _checkpoints(directory)) or "there was no checkpoint yet"
        raise CheckpointError(
            f"the checkpoint of step {step} cannot be written to {directory} ({cause})",
            f"room for {megabytes:.0f} MB and the right to write are needed",
            f"Nothing before is lost ({kept}): make room and go on with --resume",
        ) from problem
    for old in _checkpoints(directory)[MAX_CHECKPOINTS:]:
        with explain_os_errors(old):
            shutil.rmtree(old)
    return final


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint, None if there is none. Raises CheckpointError if there are some, all damaged."""
    skipped: list[str] = []
    for folder in _checkpoints(directory):
        try:
            manifest = read_json(folder / MANIFEST_FILE)
            if not isinstance(manifest, dict) or type(manifest.get("step")) is not int:
                raise UnreadableError("has no manifest of tenth's")
            if sha256_of(folder / TENSORS_FILE) != manifest.get("sha256"):
                raise UnreadableError("has another sha256 than its manifest")
            if folder.name != f"step-{manifest['step']:08d}":
                raise UnreadableError(f"has a manifest of step {manifest['step']}")
            _, tensors = read_tensors(folder / TENSORS_FILE, finite_floats=False)
            return Checkpoint(manifest["step"], tensors, tuple(skipped))
        except (OSError, UnreadableError) as problem:
            skipped.append(f"{folder.name} skipped: it {reason(problem)}")
    if skipped:
        needed = "one whole checkpoint is needed to resume"
        raise CheckpointError("; ".join(skipped), needed, "Start again in an empty directory")
    return None


@contextmanager
def exclusive_run(directory: Path, is_main_process: bool) -> Iterator[None]:
    """Lock the directory for one run and remove leftovers of killed ones. Raises CheckpointError if another run is there."""
    if not is_main_process:
        yield
        return
    with exclusive_folder(directory):
        remove_temporary(directory)
        yield


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-????????"), reverse=True)
