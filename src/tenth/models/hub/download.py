"""Download a published model by name: its folder is complete and locked afterwards, or not there at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from tenth.core.errors import ModelError
from tenth.core.files.reading import MAX_TENSOR_FILE_BYTES, MAX_TEXT_BYTES, UnreadableError, git_blob_sha1, read_json, sha256_of
from tenth.core.files.writing import copy_file, fsync_folder, move_file
from tenth.core.wording import pluralize
from tenth.models.hub import lockfile, published
from tenth.models.hub.client import RemoteFile, RepoListing, download_file, find_in_hf_cache, list_files
from tenth.models.hub.lockfile import LockedFile, LockedModel, LockedRepo
from tenth.models.hub.published import ModelSpec

MAX_CONFIG_BYTES = 1 << 20  # of a configuration that is read before anything large is requested; they have a few thousand


def matches(file: RemoteFile, path: Path) -> bool:
    """Whether the file at `path` has the expected size and digest."""
    if file.sha256:
        return lockfile.file_matches(path, file.size, file.sha256)
    sized = path.is_file() and path.stat().st_size == file.size
    return sized and (not file.git_sha1 or git_blob_sha1(path) == file.git_sha1)


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

    def partial_path(self, local: str, file: RemoteFile) -> Path:
        """Where an incomplete file grows. Its digest is its name, so that another revision never continues it."""
        digest = file.sha256 or file.git_sha1 or hashlib.sha256(f"{file.revision} {local}".encode()).hexdigest()
        return self.path / f"{digest}.part"

    def completed_path(self, local: str) -> Path:
        """Where a complete file waits for the others. local: its path in the model's folder."""
        return self.path / "new" / local

    def find(self, local: str, file: RemoteFile) -> Path | None:
        """The file if its bytes are here; a large one of another model or program is linked first. Raises OSError."""
        completed = self.completed_path(local)
        for path in (completed, self.folder / local):
            if matches(file, path):
                return path
        if not file.sha256:
            return None

        # The same bytes elsewhere on this machine.
        others = [
            self.models / lockfile.folder_name(name) / other
            for name, locked in lockfile.read_lock(self.models).items()
            for other, each in locked.files.items()
            if each.sha256 == file.sha256
        ]
        if cached := find_in_hf_cache(file):
            others.append(cached)
        source = next((other for other in others if matches(file, other)), None)
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

        A new model gets its folder by one rename; an existing one loses files that only `previous` had.
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
            if lockfile.file_matches(self.completed_path(local), file.bytes, file.sha256):
                move_file(self.completed_path(local), self.folder / local)

        for local in (previous.files.keys() if previous else set()) - locked.files.keys():
            (self.folder / local).unlink(missing_ok=True)
        shutil.rmtree(self.path)


@dataclass(frozen=True)
class DownloadPlan:
    """All files of a model, by path in its folder, and the repositories that they come from."""

    repositories: dict[str, LockedRepo]
    files: dict[str, RemoteFile]

    def num_bytes(self, paths: Iterable[str]) -> int:
        """Size of these files in bytes."""
        return sum(self.files[path].size for path in paths)


@dataclass(frozen=True)
class DownloadCallbacks:
    """How a download reports. on_message: lines for the user; on_progress: (bytes that are here, bytes in total)."""

    on_message: Callable[[str], None] = lambda _: None
    on_progress: Callable[[int, int], None] = lambda _, __: None


def download(model_spec: ModelSpec, callbacks: DownloadCallbacks, *, update: bool = False) -> Path:
    """Download a model's missing files and return its folder, every byte of it compared with the lock.

    update: lock what the hub has now, instead of what is locked. Raises ModelError if the hub, the disk or the lock file
    prevents it; a model that was complete before stays, and an incomplete file is continued next time.
    """
    models = lockfile.models_dir()
    try:
        models.mkdir(parents=True, exist_ok=True)
        staging = Staging(models, lockfile.folder_name(model_spec.name))
        with lockfile.file_lock(staging.lock_path, wait=False):
            return _download_locked(model_spec, callbacks, staging, update=update)
    except Timeout:
        found = f"{model_spec.name} is being downloaded already"
        raise ModelError(found, "one download at a time goes there", "Wait for it") from None
    except BrokenPipeError:  # of a callback that prints
        raise
    except OSError as problem:
        found = f"{problem.filename or models}: {problem.strerror or problem}"
        raise ModelError(found, "a download writes there", "Check path, permissions and disk, then run it again") from problem


def _download_locked(model_spec: ModelSpec, callbacks: DownloadCallbacks, staging: Staging, *, update: bool) -> Path:
    # What to download: the locked files or, for a new model and an update, what the hub has now.
    previous = lockfile.read_lock(staging.models).get(model_spec.name)
    staging.create()
    plan = _locked_plan(previous) if previous and not update else _newest_plan(model_spec, staging, callbacks)
    for name, repo in plan.repositories.items():
        num_bytes = plan.num_bytes(local for local, file in plan.files.items() if file.repository == name)
        callbacks.on_message(f"{name} at {repo.revision}: {num_bytes:,} bytes, {repo.licence}")
    callbacks.on_message(f"into {staging.folder}")

    # What of it is missing, and whether the disk has room.
    missing = [local for local, file in plan.files.items() if staging.find(local, file) is None]
    count = f"{len(missing)} of {pluralize(len(plan.files), 'file')}, {plan.num_bytes(missing):,} bytes"
    callbacks.on_message(f"not here: {count}" if missing else "all files are here; every byte was compared")
    _check_space(plan, missing, staging)
    _download_missing(plan, missing, staging, callbacks)

    # The lock is written first: a model whose installation is cut off is refused until this has run again.
    locked = _make_lock(plan, staging)
    if locked != previous:
        lockfile.write_lock(staging.models, model_spec.name, locked)
    staging.install(locked, previous)
    lockfile.write_stamps(staging.folder, locked)
    if locked != previous:
        callbacks.on_message("locked: " + ", ".join(f"{name} at {repo.revision}" for name, repo in locked.repositories.items()))
        for local, file in locked.files.items():
            callbacks.on_message(f"{file.sha256}  {local}")
    return staging.folder


def _locked_plan(locked: LockedModel) -> DownloadPlan:
    files = {}
    for local, file in locked.files.items():
        revision = locked.repositories[file.repository].revision
        files[local] = RemoteFile(file.repository, revision, file.path, file.bytes, file.sha256)
    return DownloadPlan(dict(locked.repositories), files)


def _newest_plan(model_spec: ModelSpec, staging: Staging, callbacks: DownloadCallbacks) -> DownloadPlan:
    """What the hub has now. Terms are said, and small files that tell the family read, before anything large is requested."""
    if row := published.PUBLISHED.get(model_spec.name):
        callbacks.on_message(row.terms)
    model = list_files(model_spec.repository)
    if model.terms:
        callbacks.on_message(f"{model.repository}: {model.licence}; {model.terms}")
    published.check_layout(model)
    index, unet = (
        _read_config(model, path, staging) if path in model.files else None for path in (published.INDEX, published.UNET)
    )
    family = published.detect_family(model, index, unet)
    adapter = published.choose_adapter(model_spec, family)
    files = {local: _listed_file(model, path) for local, path in published.model_files(model, family).items()}
    listings = [model]
    if adapter is not None:
        adapters = list_files(published.IP_ADAPTER)
        files |= {local: _listed_file(adapters, path) for local, path in published.adapter_files(adapters, adapter).items()}
        listings.append(adapters)
    return DownloadPlan({each.repository: LockedRepo(each.revision, each.licence) for each in listings}, files)


def _listed_file(listing: RepoListing, path: str, max_bytes: int = 0) -> RemoteFile:
    """A file of a listing. Raises ModelError if its listed size is larger than such a file can have."""
    remote = listing.files[path]
    max_bytes = max_bytes or (MAX_TENSOR_FILE_BYTES if path.endswith(".safetensors") else MAX_TEXT_BYTES)
    if remote.size > max_bytes:
        found = f"{path} of {listing.repository} is listed with {remote.size:,} bytes"
        raise ModelError(found, f"such a file has at most {max_bytes:,}", "Choose another repository, or another hub")
    return remote


def _read_config(listing: RepoListing, path: str, staging: Staging) -> Any:
    file = _listed_file(listing, path, MAX_CONFIG_BYTES)
    partial_path = staging.partial_path(path, file)
    _download_file(file, partial_path, lambda _: None)
    try:
        return read_json(partial_path, MAX_CONFIG_BYTES)
    except UnreadableError as problem:
        partial_path.unlink()
        found = f"{path} of {listing.repository} {problem}"
        raise ModelError(found, "a configuration of diffusers is needed", "Choose another repository") from problem


def _download_file(file: RemoteFile, partial_path: Path, progress: Callable[[int], None]) -> None:
    """The complete file at `partial_path`, verified. Raises ModelError, and keeps nothing that is known to be wrong."""
    download_file(file, partial_path, progress)
    if not matches(file, partial_path):
        partial_path.unlink()
        needed = f"those that revision {file.revision} was listed or locked with are needed"
        action = "Run it again if the network may have damaged it; `tenth models update NAME` takes what the hub has now"
        raise ModelError(f"{file.path} of {file.repository} came with other bytes", needed, action)


def _check_space(plan: DownloadPlan, missing: list[str], staging: Staging) -> None:
    partial_paths = [staging.partial_path(local, plan.files[local]) for local in missing]
    required = plan.num_bytes(missing) - sum(path.stat().st_size for path in partial_paths if path.is_file())
    free = shutil.disk_usage(staging.models).free
    if required > free:
        found, needed = f"{staging.models} has {free / 1e9:.2f} GB free", f"{required / 1e9:.2f} GB are still to come"
        raise ModelError(found, needed, "Make room, or set TENTH_MODELS to a folder on another disk")


def _download_missing(plan: DownloadPlan, missing: list[str], staging: Staging, callbacks: DownloadCallbacks) -> None:
    total = plan.num_bytes(plan.files)
    done = total - plan.num_bytes(missing)

    def on_progress(current: int) -> None:
        callbacks.on_progress(done + current, total)

    for local in missing:
        file = plan.files[local]
        partial_path = staging.partial_path(local, file)
        _download_file(file, partial_path, on_progress)
        move_file(partial_path, staging.completed_path(local))
        done += file.size
        on_progress(0)


def _make_lock(plan: DownloadPlan, staging: Staging) -> LockedModel:
    files = {}
    for local, file in plan.files.items():
        digest = file.sha256
        if not digest and (path := staging.find(local, file)):
            digest = sha256_of(path)
        if not digest:
            found = f"{local} of {staging.folder.name} has changed since it came"
            raise ModelError(found, "it is locked as it is", "Run it again")
        files[local] = LockedFile(file.repository, file.path, file.size, digest)
    return LockedModel(plan.repositories, files)
