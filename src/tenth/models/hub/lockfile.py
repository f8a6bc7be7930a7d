"""models.lock: the revision and the file digests of each downloaded model; no other bytes are loaded or downloaded.

The file lies beside the models and may be copied to another machine, which then gets the same bytes. Stamps beside a model's
files note their size and time when they were last verified.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tenth.core.cache import user_cache_dir
from tenth.core.errors import DataError, ModelError
from tenth.core.files.reading import UnreadableError, read_json, sha256_of
from tenth.core.files.writing import write_json
from tenth.core.wording import abbreviate

LOCK_FILE, CHECKED_FILE = "models.lock", ".checked.json"
FORMAT_VERSION = 1
MAX_LOCK_BYTES = 4 << 20  # some thousand models
MAX_FILE_SIZE = 2**63 - 1  # of what a file system can count
DIGEST_PATTERN = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # sha1 (git) or sha256
NAME_PATTERN = re.compile(r"[\w.-]+(/[\w.-]+)?(\+[\w.-]+)?", re.ASCII)  # of a model on the command line
REPOSITORY_PATTERN = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
MAX_PATH_CHARS, MAX_COMPONENT_BYTES = 1000, 255
MAX_SHOWN_CHARS = 100  # of a value in a message


@dataclass(frozen=True)
class LockedRepo:
    """A repository's revision (a commit), and its licence as the hub states it. Raises ValueError or TypeError if invalid."""

    revision: str
    licence: str

    def __post_init__(self) -> None:
        check_digest(self.revision)
        if not isinstance(self.licence, str):
            raise TypeError("the licence is no text")


@dataclass(frozen=True)
class LockedFile:
    """A file of a model: repository, path in it, size and sha256. Raises ValueError or TypeError if one is invalid."""

    repository: str
    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_safe_path(self.path):
            raise ValueError(f"{self.path!r:.{MAX_SHOWN_CHARS}} is outside the repository")
        check_size(self.bytes)
        check_digest(self.sha256, 64)


@dataclass(frozen=True)
class LockedModel:
    """A model: its repositories by name, and its files by path in the model's folder.

    Raises ValueError if there is no file, a path leads out of the folder, or a file's repository is not listed.
    """

    repositories: Mapping[str, LockedRepo]
    files: Mapping[str, LockedFile]

    def __post_init__(self) -> None:
        for name in self.repositories:
            if not REPOSITORY_PATTERN.fullmatch(name) or not is_safe_path(name):
                raise ValueError(f"{name!r:.{MAX_SHOWN_CHARS}} is no repository")
        if not self.files:
            raise ValueError("a model has no files")
        for path, file in self.files.items():
            if not is_safe_path(path):
                raise ValueError(f"{path!r:.{MAX_SHOWN_CHARS}} is outside the model's folder")
            if file.repository not in self.repositories:
                raise ValueError(f"{path:.{MAX_SHOWN_CHARS}} is of a repository that is not listed")

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def models_dir() -> Path:
    """The folder of all models: `$TENTH_MODELS`, else `tenth/models` in the user's cache directory."""
    return Path(os.environ.get("TENTH_MODELS") or user_cache_dir() / "tenth" / "models")


def folder_name(name: str) -> str:
    """The name of a model's folder. It is unique: a repository's name has no double hyphen."""
    return name.replace("/", "--")


def read_lock(models: Path) -> dict[str, LockedModel]:
    """The locked models of a folder by name; empty if there is no lock file. Raises ModelError if it is invalid."""
    path = models / LOCK_FILE
    try:
        table = read_json(path, MAX_LOCK_BYTES)
        if table["format"] != FORMAT_VERSION:
            raise ValueError(f"it has format {table['format']!r:.{MAX_SHOWN_CHARS}}")
        return {_validate_name(name): _parse_model(entry) for name, entry in table["models"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(
            f"{path} cannot be read ({short_message(problem)})",
            f"it says which bytes each model had, in format {FORMAT_VERSION}",
            "Restore it from a copy, or remove it to accept the models as the hub has them now",
        ) from problem


def write_lock(models: Path, name: str, locked: LockedModel) -> None:
    """Add a model to the lock file, or replace it there."""
    with file_lock(models / f".{LOCK_FILE}.claim"):  # two downloads may end at the same time
        table = {each: asdict(entry) for each, entry in (read_lock(models) | {name: locked}).items()}
        write_json(models / LOCK_FILE, {"format": FORMAT_VERSION, "models": table})


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
        raise ModelError(
            f"{path} cannot be opened ({problem.strerror})", "a file of tenth's is there", "Remove it"
        ) from problem
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

    A file is read only if its size or modification time differs from its stamp. Bytes that change without either, as on a
    failing disk, are found by `tenth models download`.
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
        if stamps.get(path) != file_stamp(folder / path, file) and not file_matches(folder / path, file):
            raise _mismatch_error(name, f"{folder / path} has other bytes")
    write_stamps(folder, locked)


def file_matches(path: Path, file: LockedFile) -> bool:
    """Whether the file at `path` has the locked size and sha256."""
    return path.is_file() and path.stat().st_size == file.bytes and sha256_of(path) == file.sha256


def write_stamps(folder: Path, locked: LockedModel) -> None:
    """Note size and modification time of the folder's files, which were just verified."""
    stamps = {path: file_stamp(folder / path, file) for path, file in locked.files.items()}
    if stamps != _read_stamps(folder):
        with suppress(DataError):  # a shared, read-only folder: every run verifies the files again
            write_json(folder / CHECKED_FILE, stamps)


def file_stamp(path: Path, file: LockedFile) -> dict[str, Any]:
    """Size, modification time and sha256, which show without reading the file whether it was changed."""
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": file.sha256}


def _read_stamps(folder: Path) -> dict[str, Any]:
    try:
        stamps = read_json(folder / CHECKED_FILE, MAX_LOCK_BYTES)
    except (OSError, UnreadableError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def is_safe_path(path: Any) -> bool:
    """Whether a path with slashes stays below the folder that it is joined to, on any system."""
    if not isinstance(path, str) or len(path) > MAX_PATH_CHARS or not path.isprintable() or "\\" in path:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= MAX_COMPONENT_BYTES for part in path.split("/"))


def check_size(size: Any) -> None:
    """Raises ValueError unless it is a possible number of bytes."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_SIZE:
        raise ValueError(f"{size!r:.{MAX_SHOWN_CHARS}} is no size")


def check_digest(digest: Any, length: int = 0) -> None:
    """Raises ValueError unless it is a sha1 or sha256 in lower-case hexadecimal. length: of which only this one, if not 0."""
    if not isinstance(digest, str) or not DIGEST_PATTERN.fullmatch(digest) or length not in (0, len(digest)):
        raise ValueError(f"{digest!r:.{MAX_SHOWN_CHARS}} is no {f'{length}' if length else '40 or 64'} hexadecimal digits")


def short_message(problem: Exception) -> str:
    """The text of a parsing error for a message; with the type, unless it is a ValueError, whose text says enough."""
    text = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
    return text[: 2 * MAX_SHOWN_CHARS]


def _validate_name(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name) or not all(part.strip(".") for part in re.split(r"[/+]", name)):
        raise ValueError(f"{name!r:.{MAX_SHOWN_CHARS}} is no name of a model")
    return name


def _parse_model(entry: Mapping[str, Any]) -> LockedModel:
    repositories = {name: LockedRepo(**origin) for name, origin in entry["repositories"].items()}
    return LockedModel(repositories, {path: LockedFile(**file) for path, file in entry["files"].items()})


def _mismatch_error(name: str, found: str) -> ModelError:
    return ModelError(
        found,
        f"{name} was locked with the bytes that {LOCK_FILE} lists",
        f"`tenth models download {name}` gets those again; `tenth models update {name}` locks what the hub has now",
    )
