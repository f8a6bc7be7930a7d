"""The hidden folder in which a model's files wait until all of them are complete, and the step that puts them in place."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tenth.core.files.reading import git_blob_sha1
from tenth.core.files.writing import copy_file, fsync_folder, move_file
from tenth.models.hub.client import RemoteFile, find_in_hf_cache
from tenth.models.hub.lockfile import LockedModel, file_matches, folder_name, read_lock


@dataclass(frozen=True)
class FileSpec:
    """A file to download: its source, and the digest that its bytes must have.

    remote.sha256 is empty for a small file that is not locked yet; the hub gives only git's sha1 for these.
    """

    repository: str
    revision: str
    remote: RemoteFile

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` has the expected size and digest."""
        remote = self.remote
        if remote.sha256:
            return file_matches(path, remote.size, remote.sha256)
        sized = path.is_file() and path.stat().st_size == remote.size
        return sized and (not remote.git_sha1 or git_blob_sha1(path) == remote.git_sha1)


class Staging:
    """The staging folder of one model, beside the model's own. models: the folder of all models."""

    def __init__(self, models: Path, name: str) -> None:
        self.models, self.folder = models, models / name
        self.path, self.lock_path = models / f".{name}.partial", models / f".{name}.lock"  # lock_path: one download at a time

    def create(self) -> None:
        """Make the folder, unless it is there. A link in its place is removed: its target belongs to somebody else."""
        if self.path.is_symlink():
            self.path.unlink()
        self.path.mkdir(exist_ok=True)

    def partial_path(self, local: str, spec: FileSpec) -> Path:
        """Where an incomplete file grows. Its digest is its name, so that another revision never continues it."""
        digest = spec.remote.sha256 or spec.remote.git_sha1 or hashlib.sha256(f"{spec.revision} {local}".encode()).hexdigest()
        return self.path / f"{digest}.part"

    def completed_path(self, local: str) -> Path:
        """Where a complete file waits for the others. local: its path in the model's folder."""
        return self.path / "new" / local

    def find(self, local: str, spec: FileSpec) -> Path | None:
        """The file if its bytes are here already, in place or complete. Raises OSError if a link or copy cannot be made.

        A large file that another model or huggingface_hub's cache has is linked into the staging folder first.
        """
        completed = self.completed_path(local)
        for path in (completed, self.folder / local):
            if spec.matches(path):
                return path
        if not spec.remote.sha256:
            return None

        # The same bytes elsewhere on this machine.
        others = [
            self.models / folder_name(name) / other
            for name, locked in read_lock(self.models).items()
            for other, file in locked.files.items()
            if file.sha256 == spec.remote.sha256
        ]
        if cached := find_in_hf_cache(spec.repository, spec.revision, spec.remote.path):
            others.append(cached)
        source = next((other for other in others if spec.matches(other)), None)
        if source is None:
            return None

        completed.parent.mkdir(parents=True, exist_ok=True)
        completed.unlink(missing_ok=True)
        try:
            os.link(source, completed)
        except OSError:  # another disk, or a file system without links
            copy_file(source, completed)
        return completed

    def install(self, locked: LockedModel, previous: LockedModel | None) -> None:
        """Move the complete files into the model's folder and remove the staging folder.

        A new model gets its folder by one rename. An existing one gets the files that differ, and loses those that only
        `previous` had.
        """
        # Files of another download, which was stopped, are not part of this model.
        completed_dir = self.completed_path("")
        for path in completed_dir.rglob("*"):
            if path.is_file() and path.relative_to(completed_dir).as_posix() not in locked.files:
                path.unlink()

        if not self.folder.exists():
            completed_dir.rename(self.folder)
            fsync_folder(self.models)
        for local, file in locked.files.items():
            if file_matches(self.completed_path(local), file.bytes, file.sha256):
                move_file(self.completed_path(local), self.folder / local)

        for local in (previous.files.keys() if previous else set()) - locked.files.keys():
            (self.folder / local).unlink(missing_ok=True)
        shutil.rmtree(self.path)
