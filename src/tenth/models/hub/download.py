"""A model's name -> its folder beside the others, whole and locked, or not there at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tenth.core.errors import ModelError
from tenth.core.files.reading import MAX_TENSOR_FILE_BYTES, MAX_TEXT_BYTES, UnreadableError, git_blob_sha1, read_json, sha256_of
from tenth.core.files.writing import copy_file, fsync_folder, move_file
from tenth.core.wording import pluralize
from tenth.models.hub.client import RemoteFile, RepoListing, download_file, find_in_hf_cache, list_files
from tenth.models.hub.lockfile import (
    LockedFile,
    LockedModel,
    LockedRepo,
    file_lock,
    file_matches,
    folder_name,
    models_dir,
    read_lock,
    write_lock,
    write_stamps,
)
from tenth.models.hub.published import (
    INDEX,
    IP_ADAPTER,
    UNET,
    ModelSpec,
    adapter_files,
    check_layout,
    choose_adapter,
    detect_family,
    model_files,
)

MAX_CONFIG_BYTES = 1 << 20  # of a configuration that is read before anything large is asked for; they have a few thousand


@dataclass(frozen=True)
class FileSpec:
    """A file to get: where from, and how its bytes are known. remote.sha256 is unknown of a small file that is not locked."""

    repository: str
    revision: str
    remote: RemoteFile

    def matches(self, path: Path) -> bool:
        """Whether the path has these bytes."""
        if not path.is_file() or path.stat().st_size != self.remote.size:
            return False
        if self.remote.sha256:
            return sha256_of(path) == self.remote.sha256
        return not self.remote.git_sha1 or git_blob_sha1(path) == self.remote.git_sha1


@dataclass(frozen=True)
class DownloadPlan:
    """Everything to get for a model, by path in its folder."""

    repositories: dict[str, LockedRepo] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)

    def add(self, listing: RepoListing, paths: dict[str, str]) -> None:
        self.repositories[listing.repository] = LockedRepo(listing.revision, listing.licence)
        for local, path in paths.items():
            self.files[local] = _file_spec(listing, path)


@dataclass(frozen=True)
class DownloadCallbacks:
    """Where a download says what it does. on_message: lines; on_progress: bytes that are here, of all."""

    on_message: Callable[[str], None] = lambda _: None
    on_progress: Callable[[int, int], None] = lambda _, __: None


def download(model_spec: ModelSpec, callbacks: DownloadCallbacks, *, update: bool = False) -> Path:
    """The model's folder, every byte of it compared with the lock; what is not here comes from the hub, or goes on coming.

    update: lock what the hub has now, instead of getting what is locked. Raises ModelError if the hub, the disk or the lock is
    in the way; what was whole before stays.
    """
    models = models_dir()
    try:
        return _download_locked(model_spec, callbacks, models, update=update)
    except BrokenPipeError:  # of `told`
        raise
    except OSError as problem:
        found = f"{problem.filename or models}: {problem.strerror or problem}"
        raise ModelError(found, "a download writes there", "Check path, permissions and disk, then run it again") from problem


def _download_locked(model_spec: ModelSpec, callbacks: DownloadCallbacks, models: Path, *, update: bool) -> Path:
    folder = models / folder_name(model_spec.name)
    staging = models / f".{folder.name}.partial"
    models.mkdir(parents=True, exist_ok=True)
    if staging.is_symlink():  # what it leads to is not ours
        staging.unlink()
    with _exclusive(models / f".{folder.name}.lock", model_spec.name):
        previous = read_lock(models).get(model_spec.name)
        staging.mkdir(exist_ok=True)
        plan = _locked_plan(previous) if previous and not update else _newest_plan(model_spec, staging)
        _report_plan(plan, folder, callbacks)
        missing = [path for path, spec in plan.files.items() if not _is_available(path, spec, folder, staging, models)]
        _report_missing(plan, missing, callbacks)
        _check_space(plan, missing, models, staging)
        _download_missing(plan, missing, staging, callbacks)
        locked = _make_lock(plan, folder, staging)
        if locked != previous:
            write_lock(models, model_spec.name, locked)
        _install_files(staging, folder, locked, previous)
        write_stamps(folder, locked)
    if locked != previous:
        callbacks.on_message("locked: " + ", ".join(f"{name} at {repo.revision}" for name, repo in locked.repositories.items()))
        for path, file in locked.files.items():
            callbacks.on_message(f"{file.sha256}  {path}")
    return folder


def _locked_plan(locked: LockedModel) -> DownloadPlan:
    plan = DownloadPlan(dict(locked.repositories))
    for local, file in locked.files.items():
        revision = locked.repositories[file.repository].revision
        plan.files[local] = FileSpec(file.repository, revision, RemoteFile(file.path, file.bytes, file.sha256))
    return plan


def _newest_plan(model_spec: ModelSpec, staging: Path) -> DownloadPlan:
    """What the hub has now. Small files that say which family it is are read, and kept, before anything large is asked for."""
    listing, plan = list_files(model_spec.repository), DownloadPlan()
    check_layout(listing)
    index, unet = (_read_config(listing, path, staging) for path in (INDEX, UNET))
    family = detect_family(model_spec.repository, index, unet)
    adapter = choose_adapter(model_spec, family)
    plan.add(listing, model_files(listing, family))
    plan.add(adapters := list_files(IP_ADAPTER), adapter_files(adapters, adapter))
    return plan


def _file_spec(listing: RepoListing, path: str, max_bytes: int = 0) -> FileSpec:
    """A file of a listing, to be asked for. Raises ModelError if it says that it is larger than such a file can be."""
    remote = listing.files[path]
    max_bytes = max_bytes or (MAX_TENSOR_FILE_BYTES if path.endswith(".safetensors") else MAX_TEXT_BYTES)
    if remote.size > max_bytes:
        raise ModelError(
            f"{path} of {listing.repository} is said to have {remote.size:,} bytes",
            f"such a file has at most {max_bytes:,}",
            "Choose another repository, or another hub",
        )
    return FileSpec(listing.repository, listing.revision, remote)


def _read_config(listing: RepoListing, path: str, staging: Path) -> Any:
    spec = _file_spec(listing, path, MAX_CONFIG_BYTES)
    partial_path = _partial_path(staging, path, spec)
    _download_file(spec, partial_path, lambda _: None)
    try:
        return read_json(partial_path, MAX_CONFIG_BYTES)
    except UnreadableError as problem:
        partial_path.unlink()
        found = f"{path} of {listing.repository} {problem}"
        raise ModelError(found, "the file of diffusers is needed", "Choose another") from problem


def _download_file(spec: FileSpec, partial_path: Path, progress: Callable[[int], None]) -> None:
    """The whole file at `partial_path`, its bytes compared. Raises ModelError, and keeps nothing that is known to be wrong."""
    download_file(spec.repository, spec.revision, spec.remote, partial_path, progress)
    if not spec.matches(partial_path):
        partial_path.unlink()
        raise ModelError(
            f"{spec.remote.path} of {spec.repository} came with other bytes",
            f"those that revision {spec.revision} was listed or locked with are needed",
            "Run it again if the network may have damaged it; `tenth models update NAME` takes what the hub has now",
        )


def _partial_path(staging: Path, path: str, spec: FileSpec) -> Path:
    """Where a file grows: named by its bytes, so that another revision's never goes on with them."""
    digest = spec.remote.sha256 or spec.remote.git_sha1 or hashlib.sha256(f"{spec.revision} {path}".encode()).hexdigest()
    return staging / f"{digest}.part"


def _completed_dir(staging: Path) -> Path:
    """The folder in which whole files wait for the last one."""
    return staging / "new"


def _is_available(path: str, spec: FileSpec, folder: Path, staging: Path, models: Path) -> bool:
    """Whether the bytes are here: in their place or waiting, or at another model's or program's, whence they are linked."""
    completed = _completed_dir(staging) / path
    if spec.matches(folder / path) or spec.matches(completed):
        return True
    if not spec.remote.sha256:
        return False
    other_models = (
        models / folder_name(name) / other
        for name, locked in read_lock(models).items()
        for other, file in locked.files.items()
        if file.sha256 == spec.remote.sha256
    )
    hf_cache_path = find_in_hf_cache(spec.repository, spec.revision, spec.remote.path)
    local_copy = next((each for each in (*other_models, hf_cache_path) if each and spec.matches(each)), None)
    if local_copy is None:
        return False
    completed.parent.mkdir(parents=True, exist_ok=True)
    completed.unlink(missing_ok=True)
    try:
        os.link(local_copy, completed)
    except OSError:  # another disk, or one without links
        copy_file(local_copy, completed)
    return True


def _check_space(plan: DownloadPlan, missing: list[str], models: Path, staging: Path) -> None:
    required = sum(plan.files[path].remote.size for path in missing)
    required -= sum(
        part.stat().st_size for path in missing if (part := _partial_path(staging, path, plan.files[path])).is_file()
    )
    free = shutil.disk_usage(models).free
    if required > free:
        raise ModelError(
            f"{models} has {free / 1e9:.2f} GB free",
            f"{required / 1e9:.2f} GB are still to come",
            "Make room, or set TENTH_MODELS to a folder on another disk",
        )


def _download_missing(plan: DownloadPlan, missing: list[str], staging: Path, callbacks: DownloadCallbacks) -> None:
    total = sum(wanted.remote.size for wanted in plan.files.values())
    done = total - sum(plan.files[path].remote.size for path in missing)
    for path in missing:
        spec = plan.files[path]
        partial_path, completed = _partial_path(staging, path, spec), _completed_dir(staging) / path
        _download_file(spec, partial_path, partial(_report_progress, callbacks, done, total))
        move_file(partial_path, completed)
        done += spec.remote.size
        callbacks.on_progress(done, total)


def _report_progress(callbacks: DownloadCallbacks, before: int, total: int, current: int) -> None:
    callbacks.on_progress(before + current, total)


def _make_lock(plan: DownloadPlan, folder: Path, staging: Path) -> LockedModel:
    files = {}
    for path, spec in plan.files.items():
        candidates = (_completed_dir(staging) / path, folder / path)
        digest = spec.remote.sha256 or next((sha256_of(each) for each in candidates if spec.matches(each)), "")
        if not digest:
            raise ModelError(f"{path} of {folder.name} has changed since it came", "it is locked as it is", "Run it again")
        files[path] = LockedFile(spec.repository, spec.remote.path, spec.remote.size, digest)
    return LockedModel(plan.repositories, files)


def _install_files(staging: Path, folder: Path, locked: LockedModel, previous: LockedModel | None) -> None:
    """The waiting files into the model's folder: a new one by one rename; one that is there gets the files that differ."""
    for stray in (path for path in _completed_dir(staging).rglob("*") if path.is_file()):
        if stray.relative_to(_completed_dir(staging)).as_posix() not in locked.files:  # of another, stopped download
            stray.unlink()
    if not folder.exists():
        _completed_dir(staging).rename(folder)
        fsync_folder(folder.parent)
    for path, file in locked.files.items():
        completed = _completed_dir(staging) / path
        if file_matches(completed, file):
            move_file(completed, folder / path)
    for path in (previous.files.keys() if previous else set()) - locked.files.keys():
        (folder / path).unlink(missing_ok=True)
    shutil.rmtree(staging)


def _report_plan(plan: DownloadPlan, folder: Path, callbacks: DownloadCallbacks) -> None:
    for name, origin in plan.repositories.items():
        size = sum(wanted.remote.size for wanted in plan.files.values() if wanted.repository == name)
        callbacks.on_message(f"{name} at {origin.revision}: {size:,} bytes, {origin.licence}")
    callbacks.on_message(f"into {folder}")


def _report_missing(plan: DownloadPlan, missing: list[str], callbacks: DownloadCallbacks) -> None:
    if missing:
        size = sum(plan.files[path].remote.size for path in missing)
        callbacks.on_message(f"not here: {len(missing)} of {pluralize(len(plan.files), 'file')}, {size:,} bytes")
    else:
        callbacks.on_message("all files are here; every byte was compared")


@contextmanager
def _exclusive(path: Path, name: str) -> Iterator[None]:
    """One download of a model at a time."""
    try:
        with file_lock(path, wait=False):
            yield
    except BlockingIOError:
        raise ModelError(f"{name} is being downloaded already", "one download at a time goes there", "Wait for it") from None
