"""models.lock: which revision and which bytes of each downloaded model were taken once, and nothing else from then on.

The file lies beside the models and holds nothing of the machine, so it may be copied to another one, which then gets the same
bytes. Beside a model's own files lies a note of when each was last found to be the locked one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tenth.data.faces import file_digest
from tenth.errors import ModelError

LOCK, CHECKED = "models.lock", ".checked.json"
FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """Where files come from: a repository's revision (a commit) and its licence, as the hub states it."""

    revision: str
    licence: str


@dataclass(frozen=True)
class File:
    """One file of a model: its repository and path there, its size, its sha256."""

    repository: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Locked:
    """A model: its repositories by name, its files by their path in the model's folder."""

    repositories: Mapping[str, Origin]
    files: Mapping[str, File]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def models_folder() -> Path:
    """Where models go: `$TENTH_MODELS`, else `tenth/models` under the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TENTH_MODELS") or Path(cache) / "tenth" / "models")


def folder_name(name: str) -> str:
    """The folder of a model among the others. A repository's name never has two hyphens side by side."""
    return name.replace("/", "--")


def read_lock(models: Path) -> dict[str, Locked]:
    """What is locked in a folder of models, by the names that users type; empty where there is no lock. Raises ModelError."""
    path = models / LOCK
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["format"] != FORMAT:
            raise ValueError(f"format {table['format']}")
        return {name: _locked(entry) for name, entry in table["models"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(
            f"{path} cannot be read ({problem})",
            f"it says which bytes each model had, in format {FORMAT}",
            "Restore it from a copy, or remove it to accept the models as the hub has them now",
        ) from problem


def write_lock(models: Path, name: str, locked: Locked) -> None:
    """Lock a model, beside those that are; the file is replaced whole."""
    with (models / f".{LOCK}.claim").open("w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)  # two models may be done at the same moment
        table = {each: asdict(entry) for each, entry in (read_lock(models) | {name: locked}).items()}
        write_json(models / LOCK, {"format": FORMAT, "models": table})


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, and onto the disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(table, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def downloaded(name: str) -> Path:
    """The folder of a downloaded model, its files as locked. Asks no network. Raises ModelError if it is not here, or other."""
    folder = models_folder() / folder_name(name)
    if name not in read_lock(models_folder()) or not folder.is_dir():
        found = f"{name} is neither a folder nor a model that is downloaded" if "/" in name else f"{name} is not downloaded"
        raise ModelError(found, f"its files are needed in {folder}", f"Run `tenth models --download {name}`")
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Raises ModelError unless every file is the locked one. A folder that no lock beside it names is not checked.

    A file is read again only when its size or its time of change is not what it was when its sha256 was last compared; a note
    in the folder says so. Bytes that change without either, as on a failing disk, are found by `tenth models --download`.
    """
    folder = folder.resolve()
    name, locked = next(
        ((name, locked) for name, locked in read_lock(folder.parent).items() if folder_name(name) == folder.name), ("", None)
    )
    if locked is None:
        return
    if missing := [path for path in locked.files if not (folder / path).is_file()]:
        raise _other(name, f"{folder} has no {', '.join(missing)}")
    seen = _seen(folder)
    for path, file in locked.files.items():
        if seen.get(path) != stamp(folder / path, file) and not is_file(folder / path, file):
            raise _other(name, f"{folder / path} has other bytes")
    note_checked(folder, locked)


def is_file(path: Path, file: File) -> bool:
    """Whether a path has the bytes of a file: the size first, then the sha256."""
    return path.is_file() and path.stat().st_size == file.bytes and file_digest(path) == file.sha256


def note_checked(folder: Path, locked: Locked) -> None:
    """Note that the folder's files are the locked ones, as they are now."""
    stamps = {path: stamp(folder / path, file) for path, file in locked.files.items()}
    if stamps != _seen(folder):
        with suppress(PermissionError):  # models that many share may lie where none of them writes: each run then reads them
            write_json(folder / CHECKED, stamps)


def stamp(path: Path, file: File) -> dict[str, Any]:
    """What shows without reading it that a file was not written since."""
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": file.sha256}


def _seen(folder: Path) -> dict[str, Any]:
    try:
        noted = json.loads((folder / CHECKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _locked(entry: Mapping[str, Any]) -> Locked:
    repositories = {name: Origin(**origin) for name, origin in entry["repositories"].items()}
    for path in entry["files"]:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path} is outside the model's folder")
    return Locked(repositories, {path: File(**file) for path, file in entry["files"].items()})


def _other(name: str, found: str) -> ModelError:
    return ModelError(
        found,
        f"{name} was locked with the bytes that {LOCK} lists",
        f"`tenth models --download {name}` gets those again; with --update it locks what the hub has now",
    )
