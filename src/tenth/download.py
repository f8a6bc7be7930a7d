"""A model's name -> its folder beside the others, whole and locked, or not there at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tenth.data.faces import file_digest
from tenth.errors import ModelError
from tenth.hub import Listing, Remote, cached, fetch, list_files
from tenth.locked import (
    File,
    Locked,
    Origin,
    folder_name,
    is_file,
    models_folder,
    note_checked,
    read_lock,
    write_lock,
)
from tenth.published import (
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
            self.files[local] = Wanted(listing.repository, listing.revision, listing.files[path])


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
    folder = models / folder_name(source.name)
    waiting = models / f".{folder.name}.partial"
    models.mkdir(parents=True, exist_ok=True)
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


def blob_digest(path: Path) -> str:
    """The id that git gives a file: the sha1 of a header and its bytes, hexadecimal."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


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


def _read(listing: Listing, path: str, waiting: Path) -> Any:
    wanted = Wanted(listing.repository, listing.revision, listing.files[path])
    part = _part(waiting, path, wanted)
    fetch(wanted.repository, wanted.revision, wanted.remote, part, lambda _: None)
    try:
        return json.loads(part.read_bytes())
    except ValueError as problem:
        part.unlink()
        raise ModelError(
            f"{path} of {listing.repository} is not JSON ({problem})", "the file of diffusers is needed", "Choose another"
        ) from problem


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
        shutil.copyfile(found, new)
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
        part, new, remote = _part(waiting, path, wanted), _new(waiting) / path, wanted.remote
        fetch(wanted.repository, wanted.revision, remote, part, partial(_add, told, done, whole))
        if not wanted.is_at(part):
            part.unlink()
            raise ModelError(
                f"{wanted.remote.path} of {wanted.repository} came with other bytes",
                f"those that revision {wanted.revision} was listed or locked with are needed",
                "Run it again if the network may have damaged it; --update takes what the hub has now",
            )
        new.parent.mkdir(parents=True, exist_ok=True)
        part.replace(new)
        done += wanted.remote.bytes
        told.progress(done, whole)


def _add(told: Told, before: int, whole: int, here: int) -> None:
    told.progress(before + here, whole)


def _lock_of(plan: Plan, folder: Path, waiting: Path) -> Locked:
    files = {}
    for path, wanted in plan.files.items():
        places = (_new(waiting) / path, folder / path)
        digest = wanted.remote.sha256 or next(file_digest(each) for each in places if wanted.is_at(each))
        files[path] = File(wanted.repository, wanted.remote.path, wanted.remote.bytes, digest)
    return Locked(plan.repositories, files)


def _place(waiting: Path, folder: Path, locked: Locked, before: Locked | None) -> None:
    """The waiting files into the model's folder: a new one by one rename; one that is there gets the files that differ."""
    for stray in (path for path in _new(waiting).rglob("*") if path.is_file()):
        if stray.relative_to(_new(waiting)).as_posix() not in locked.files:  # of another revision, whose download was stopped
            stray.unlink()
    if not folder.exists():
        _new(waiting).rename(folder)
    for path, file in locked.files.items():
        new = _new(waiting) / path
        if is_file(new, file):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            new.replace(folder / path)
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
        told.say(f"{len(missing)} of {len(plan.files)} files are not here: {size:,} bytes")
    else:
        told.say("all files are here; every byte was compared")


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """One download of a model at a time; the kernel lets go of the claim when a process dies, however."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(
                f"{name} is being downloaded already", "one download at a time goes there", "Wait for it"
            ) from None
        yield
