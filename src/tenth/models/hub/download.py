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
from tenth.core.file_reading import TENSOR_BYTES, TEXT_BYTES, UnreadableError, blob_digest, file_digest, read_json
from tenth.core.file_writing import copy_file, flush_folder, move_file
from tenth.core.wording import counted
from tenth.models.hub.client import Listing, Remote, cached, fetch, list_files
from tenth.models.hub.lockfile import (
    File,
    Locked,
    Origin,
    claimed,
    folder_name,
    is_file,
    models_folder,
    note_checked,
    read_lock,
    write_lock,
)
from tenth.models.hub.published import (
    INDEX,
    IP_ADAPTER,
    UNET,
    Source,
    adapter_files,
    adapter_of,
    check_layout,
    family_of,
    model_files,
)

CONFIG_BYTES = 1 << 20  # of a configuration that is read before anything large is asked for; they have a few thousand


@dataclass(frozen=True)
class Wanted:
    """A file to get: where from, and how its bytes are known. remote.sha256 is unknown of a small file that is not locked."""

    repository: str
    revision: str
    remote: Remote

    def is_at(self, path: Path) -> bool:
        """Whether the path has these bytes."""
        if not path.is_file() or path.stat().st_size != self.remote.bytes:
            return False
        if self.remote.sha256:
            return file_digest(path) == self.remote.sha256
        return not self.remote.git or blob_digest(path) == self.remote.git


@dataclass(frozen=True)
class Plan:
    """Everything to get for a model, by path in its folder."""

    repositories: dict[str, Origin] = field(default_factory=dict)
    files: dict[str, Wanted] = field(default_factory=dict)

    def add(self, listing: Listing, paths: dict[str, str]) -> None:
        self.repositories[listing.repository] = Origin(listing.revision, listing.licence)
        for local, path in paths.items():
            self.files[local] = _wanted(listing, path)


@dataclass(frozen=True)
class Told:
    """Where a download says what it does. say: lines; progress: bytes that are here, of all."""

    say: Callable[[str], None] = lambda _: None
    progress: Callable[[int, int], None] = lambda _, __: None


def download(source: Source, told: Told, *, update: bool = False) -> Path:
    """The model's folder, every byte of it compared with the lock; what is not here comes from the hub, or goes on coming.

    update: lock what the hub has now, instead of getting what is locked. Raises ModelError if the hub, the disk or the lock is
    in the way; what was whole before stays.
    """
    models = models_folder()
    try:
        return _downloaded(source, told, models, update=update)
    except BrokenPipeError:  # of `told`
        raise
    except OSError as problem:
        found = f"{problem.filename or models}: {problem.strerror or problem}"
        raise ModelError(found, "a download writes there", "Check path, permissions and disk, then run it again") from problem


def _downloaded(source: Source, told: Told, models: Path, *, update: bool) -> Path:
    folder = models / folder_name(source.name)
    waiting = models / f".{folder.name}.partial"
    models.mkdir(parents=True, exist_ok=True)
    if waiting.is_symlink():  # what it leads to is not ours
        waiting.unlink()
    with _alone(models / f".{folder.name}.lock", source.name):
        before = read_lock(models).get(source.name)
        waiting.mkdir(exist_ok=True)
        plan = _locked_plan(before) if before and not update else _newest_plan(source, waiting)
        _say_plan(plan, folder, told)
        missing = [path for path, wanted in plan.files.items() if not _is_here(path, wanted, folder, waiting, models)]
        _say_missing(plan, missing, told)
        _check_space(plan, missing, models, waiting)
        _get(plan, missing, waiting, told)
        locked = _lock_of(plan, folder, waiting)
        if locked != before:
            write_lock(models, source.name, locked)
        _place(waiting, folder, locked, before)
        note_checked(folder, locked)
    if locked != before:
        told.say("locked: " + ", ".join(f"{name} at {origin.revision}" for name, origin in locked.repositories.items()))
        for path, file in locked.files.items():
            told.say(f"{file.sha256}  {path}")
    return folder


def _locked_plan(locked: Locked) -> Plan:
    plan = Plan(dict(locked.repositories))
    for local, file in locked.files.items():
        revision = locked.repositories[file.repository].revision
        plan.files[local] = Wanted(file.repository, revision, Remote(file.path, file.bytes, file.sha256))
    return plan


def _newest_plan(source: Source, waiting: Path) -> Plan:
    """What the hub has now. Small files that say which family it is are read, and kept, before anything large is asked for."""
    listing, plan = list_files(source.repository), Plan()
    check_layout(listing)
    index, unet = (_read(listing, path, waiting) for path in (INDEX, UNET))
    family = family_of(source.repository, index, unet)
    adapter = adapter_of(source, family)
    plan.add(listing, model_files(listing, family))
    plan.add(adapters := list_files(IP_ADAPTER), adapter_files(adapters, adapter))
    return plan


def _wanted(listing: Listing, path: str, most: int = 0) -> Wanted:
    """A file of a listing, to be asked for. Raises ModelError if it says that it is larger than such a file can be."""
    remote = listing.files[path]
    most = most or (TENSOR_BYTES if path.endswith(".safetensors") else TEXT_BYTES)
    if remote.bytes > most:
        raise ModelError(
            f"{path} of {listing.repository} is said to have {remote.bytes:,} bytes",
            f"such a file has at most {most:,}",
            "Choose another repository, or another hub",
        )
    return Wanted(listing.repository, listing.revision, remote)


def _read(listing: Listing, path: str, waiting: Path) -> Any:
    wanted = _wanted(listing, path, CONFIG_BYTES)
    part = _part(waiting, path, wanted)
    _fetch(wanted, part, lambda _: None)
    try:
        return read_json(part, CONFIG_BYTES)
    except UnreadableError as problem:
        part.unlink()
        found = f"{path} of {listing.repository} {problem}"
        raise ModelError(found, "the file of diffusers is needed", "Choose another") from problem


def _fetch(wanted: Wanted, part: Path, progress: Callable[[int], None]) -> None:
    """The whole file at `part`, its bytes compared. Raises ModelError, and keeps nothing that is known to be wrong."""
    fetch(wanted.repository, wanted.revision, wanted.remote, part, progress)
    if not wanted.is_at(part):
        part.unlink()
        raise ModelError(
            f"{wanted.remote.path} of {wanted.repository} came with other bytes",
            f"those that revision {wanted.revision} was listed or locked with are needed",
            "Run it again if the network may have damaged it; --update takes what the hub has now",
        )


def _part(waiting: Path, path: str, wanted: Wanted) -> Path:
    """Where a file grows: named by its bytes, so that another revision's never goes on with them."""
    known = wanted.remote.sha256 or wanted.remote.git or hashlib.sha256(f"{wanted.revision} {path}".encode()).hexdigest()
    return waiting / f"{known}.part"


def _new(waiting: Path) -> Path:
    """The folder in which whole files wait for the last one."""
    return waiting / "new"


def _is_here(path: str, wanted: Wanted, folder: Path, waiting: Path, models: Path) -> bool:
    """Whether the bytes are here: in their place or waiting, or at another model's or program's, whence they are linked."""
    new = _new(waiting) / path
    if wanted.is_at(folder / path) or wanted.is_at(new):
        return True
    if not wanted.remote.sha256:
        return False
    others = (
        models / folder_name(name) / other
        for name, locked in read_lock(models).items()
        for other, file in locked.files.items()
        if file.sha256 == wanted.remote.sha256
    )
    of_others = cached(wanted.repository, wanted.revision, wanted.remote.path)
    found = next((each for each in (*others, of_others) if each and wanted.is_at(each)), None)
    if found is None:
        return False
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    try:
        os.link(found, new)
    except OSError:  # another disk, or one without links
        copy_file(found, new)
    return True


def _check_space(plan: Plan, missing: list[str], models: Path, waiting: Path) -> None:
    needed = sum(plan.files[path].remote.bytes for path in missing)
    needed -= sum(part.stat().st_size for path in missing if (part := _part(waiting, path, plan.files[path])).is_file())
    free = shutil.disk_usage(models).free
    if needed > free:
        raise ModelError(
            f"{models} has {free / 1e9:.2f} GB free",
            f"{needed / 1e9:.2f} GB are still to come",
            "Make room, or set TENTH_MODELS to a folder on another disk",
        )


def _get(plan: Plan, missing: list[str], waiting: Path, told: Told) -> None:
    whole = sum(wanted.remote.bytes for wanted in plan.files.values())
    done = whole - sum(plan.files[path].remote.bytes for path in missing)
    for path in missing:
        wanted = plan.files[path]
        part, new = _part(waiting, path, wanted), _new(waiting) / path
        _fetch(wanted, part, partial(_add, told, done, whole))
        move_file(part, new)
        done += wanted.remote.bytes
        told.progress(done, whole)


def _add(told: Told, before: int, whole: int, here: int) -> None:
    told.progress(before + here, whole)


def _lock_of(plan: Plan, folder: Path, waiting: Path) -> Locked:
    files = {}
    for path, wanted in plan.files.items():
        places = (_new(waiting) / path, folder / path)
        digest = wanted.remote.sha256 or next((file_digest(each) for each in places if wanted.is_at(each)), "")
        if not digest:
            raise ModelError(f"{path} of {folder.name} has changed since it came", "it is locked as it is", "Run it again")
        files[path] = File(wanted.repository, wanted.remote.path, wanted.remote.bytes, digest)
    return Locked(plan.repositories, files)


def _place(waiting: Path, folder: Path, locked: Locked, before: Locked | None) -> None:
    """The waiting files into the model's folder: a new one by one rename; one that is there gets the files that differ."""
    for stray in (path for path in _new(waiting).rglob("*") if path.is_file()):
        if stray.relative_to(_new(waiting)).as_posix() not in locked.files:  # of another revision, whose download was stopped
            stray.unlink()
    if not folder.exists():
        _new(waiting).rename(folder)
        flush_folder(folder.parent)
    for path, file in locked.files.items():
        new = _new(waiting) / path
        if is_file(new, file):
            move_file(new, folder / path)
    for path in (before.files.keys() if before else set()) - locked.files.keys():
        (folder / path).unlink(missing_ok=True)
    shutil.rmtree(waiting)


def _say_plan(plan: Plan, folder: Path, told: Told) -> None:
    for name, origin in plan.repositories.items():
        size = sum(wanted.remote.bytes for wanted in plan.files.values() if wanted.repository == name)
        told.say(f"{name} at {origin.revision}: {size:,} bytes, {origin.licence}")
    told.say(f"into {folder}")


def _say_missing(plan: Plan, missing: list[str], told: Told) -> None:
    if missing:
        size = sum(plan.files[path].remote.bytes for path in missing)
        told.say(f"not here: {len(missing)} of {counted(len(plan.files), 'file')}, {size:,} bytes")
    else:
        told.say("all files are here; every byte was compared")


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """One download of a model at a time."""
    try:
        with claimed(path, wait=False):
            yield
    except BlockingIOError:
        raise ModelError(f"{name} is being downloaded already", "one download at a time goes there", "Wait for it") from None
