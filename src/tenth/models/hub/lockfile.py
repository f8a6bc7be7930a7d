"""models.lock: the revision and the file digests of each downloaded model; no other bytes are loaded or downloaded.

A copy of it gives another machine the same bytes. Stamps beside a model's files note size and time of the last verification.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field

from tenth.core.cache import user_cache_dir
from tenth.core.config import config_dataclass, from_table, needs, require
from tenth.core.errors import DataError, ModelError, RecipeError
from tenth.core.files.reading import UnreadableError, read_json, sha256_of
from tenth.core.files.writing import write_json
from tenth.core.wording import abbreviate, printable

LOCK_FILE, CHECKED_FILE = "models.lock", ".checked.json"
MAX_LOCK_BYTES = 4 << 20  # some thousand models
MAX_PATH_CHARS, MAX_COMPONENT_BYTES, MAX_MESSAGE_CHARS = 1000, 255, 200
NAME = r"(?!\.+(?:[/+]|$))[\w.-]+"  # of an owner, a repository or an adapter: not dots alone


def is_safe_path(path: Any) -> bool:
    """Whether a path with slashes stays below the folder that it is joined to, on any system."""
    if not isinstance(path, str) or len(path) > MAX_PATH_CHARS or not path.isprintable() or "\\" in path:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= MAX_COMPONENT_BYTES for part in path.split("/"))


def matches(expected: str, pattern: str) -> AfterValidator:
    """A validator of texts that a pattern matches in full. expected: what is needed, for the error."""
    return needs(expected, lambda text: re.fullmatch(pattern, text, re.ASCII) is not None)


Digest = Annotated[str, matches("40 or 64 hexadecimal digits", "[0-9a-f]{40}|[0-9a-f]{64}")]  # sha1 (git) or sha256
Sha256 = Annotated[str, matches("64 hexadecimal digits", "[0-9a-f]{64}")]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]  # bytes, as many as a file system can count
SafePath = Annotated[str, needs("a path that is not outside the model's folder", is_safe_path)]
Repository = Annotated[str, matches("owner/name", f"{NAME}/{NAME}")]
ModelName = Annotated[str, matches("a model's name", rf"{NAME}(/{NAME})?(\+{NAME})?")]  # as on the command line


@config_dataclass
class LockedRepo:
    """A repository's revision (a commit), and its licence as the hub states it."""

    revision: Digest
    licence: str


@config_dataclass
class LockedFile:
    """A file of a model: repository, path in it, size in bytes and sha256."""

    repository: str
    path: SafePath
    bytes: Size
    sha256: Sha256


@config_dataclass
class LockedModel:
    """A model: its repositories by name, and its files by path in the model's folder."""

    repositories: Mapping[Repository, LockedRepo]
    files: Annotated[Mapping[SafePath, LockedFile], needs("one file or more", bool)]

    def __post_init__(self) -> None:
        for path, file in self.files.items():
            require(file.repository in self.repositories, f"{path}: repository", file.repository, "one of those listed")

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


@config_dataclass
class LockTable:
    """The content of models.lock: the models by name."""

    models: Mapping[ModelName, LockedModel]
    format: Literal[1] = 1


def models_dir() -> Path:
    """The folder of all models: `$TENTH_MODELS`, else `tenth/models` in the user's cache directory."""
    return Path(os.environ.get("TENTH_MODELS") or user_cache_dir() / "tenth" / "models")


def folder_name(name: str) -> str:
    """The name of a model's folder. It is unique: a repository's name has no double hyphen."""
    return name.replace("/", "--")


def read_lock(models: Path) -> dict[str, LockedModel]:
    """The locked models of a folder by name; empty if there is no lock file. Raises ModelError if it is invalid."""
    try:
        return dict(from_table(LockTable, read_json(models / LOCK_FILE, MAX_LOCK_BYTES), "it").models)
    except FileNotFoundError:
        return {}
    except (UnreadableError, RecipeError) as problem:
        found, needed = f"{models / LOCK_FILE} cannot be read ({short_message(problem)})", "it says which bytes each model had"
        action = "Restore it from a copy, or remove it to accept the models as the hub has them now"
        raise ModelError(found, needed, action) from problem


def short_message(problem: Exception) -> str:
    """What is wrong with a lock file or an answer of the hub, in one line."""
    if isinstance(problem, RecipeError):
        return printable(f"{problem.found}, {problem.needed}")[:MAX_MESSAGE_CHARS]
    return printable(str(problem) if isinstance(problem, ValueError) else repr(problem))[:MAX_MESSAGE_CHARS]


def write_lock(models: Path, name: str, locked: LockedModel) -> None:
    """Add a model to the lock file, or replace it there."""
    with file_lock(models / f".{LOCK_FILE}.claim"):  # two downloads may end at the same time
        write_json(models / LOCK_FILE, asdict(LockTable(read_lock(models) | {name: locked})))


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; the system releases it when the process ends, also when it is killed.

    Raises filelock.Timeout if another process holds it and `wait` is false, ModelError if the path is a link or not a file.
    """
    try:
        lock = FileLock(path, blocking=wait).acquire()
    except Timeout:
        raise
    except OSError as problem:
        found = f"{path} cannot be opened ({problem.strerror})"
        raise ModelError(found, "a file of tenth's is there", "Remove it") from problem
    with lock:
        yield


def local_model_dir(name: str) -> Path:
    """The folder of a downloaded model, verified, without network. Raises ModelError if it is missing or has other bytes."""
    folder, locked = models_dir() / folder_name(name), read_lock(models_dir()).get(name)
    if locked is None or not folder.is_dir():
        found = f"{name} is neither a folder nor a model that is downloaded" if "/" in name else f"{name} is not downloaded"
        raise ModelError(found, f"its files are needed in {folder}", f"Run `tenth models download {name}`")
    _check_files(folder, name, locked)  # by name: the folder may be a link to another disk, without a lock file beside it
    return folder


def check_folder(folder: Path) -> None:
    """Raises ModelError unless every file has its locked bytes. A folder that is in no lock file beside it is not checked.

    A file whose size and modification time are those of its stamp is not read; `tenth models download` reads all.
    """
    folder = folder.resolve()
    for name, locked in read_lock(folder.parent).items():
        if folder_name(name) == folder.name:
            _check_files(folder, name, locked)
            return


def _check_files(folder: Path, name: str, locked: LockedModel) -> None:
    if missing := [path for path in locked.files if not (folder / path).is_file()]:
        raise _mismatch_error(name, f"{folder} has no {abbreviate(missing)}")
    stamps = _read_stamps(folder)
    for path, file in locked.files.items():
        unchanged = stamps.get(path) == _stamp(folder / path, file)
        if not unchanged and not file_matches(folder / path, file.bytes, file.sha256):
            raise _mismatch_error(name, f"{folder / path} has other bytes")
    write_stamps(folder, locked)


def file_matches(path: Path, size: int, sha256: str) -> bool:
    """Whether there is a file of this size and sha256 at `path`."""
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def write_stamps(folder: Path, locked: LockedModel) -> None:
    """Note size and modification time of the folder's files, which were just verified."""
    stamps = {path: _stamp(folder / path, file) for path, file in locked.files.items()}
    if stamps != _read_stamps(folder):
        with suppress(DataError):  # a shared, read-only folder: every run verifies the files again
            write_json(folder / CHECKED_FILE, stamps)


def _stamp(path: Path, file: LockedFile) -> dict[str, Any]:
    """What shows without reading the file whether it was changed."""
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": file.sha256}


def _read_stamps(folder: Path) -> dict[str, Any]:
    try:
        stamps = read_json(folder / CHECKED_FILE, MAX_LOCK_BYTES)
    except (OSError, UnreadableError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _mismatch_error(name: str, found: str) -> ModelError:
    needed = f"{name} was locked with the bytes that {LOCK_FILE} lists"
    again = f"`tenth models download {name}` gets those again"
    return ModelError(found, needed, f"{again}; `tenth models update {name}` locks what the hub has now")
