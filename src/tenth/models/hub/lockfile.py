"""models.lock: which revision and which bytes of each downloaded model were taken once, and nothing else from then on.

The file lies beside the models and holds nothing of the machine, so it may be copied to another one, which then gets the same
bytes. Beside a model's own files lies a note of when each was last found to be the locked one.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.cache import cache_folder
from tenth.core.errors import DataError, ModelError
from tenth.core.file_reading import UnreadableError, file_digest, read_json
from tenth.core.file_writing import write_json
from tenth.core.wording import few

LOCK, CHECKED = "models.lock", ".checked.json"
FORMAT = 1
LOCK_BYTES = 4 << 20  # some thousand models
LARGEST = 2**63 - 1  # bytes that a file system counts
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a sha1, as git's ids are, or a sha256
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(\+[\w.-]+)?", re.ASCII)  # of a model, as users type it
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
PATH_LENGTH, PART_LENGTH = 1000, 255
SHOWN = 100  # characters of what is found in a message


@dataclass(frozen=True)
class Origin:
    """Where files come from: a repository's revision (a commit) and its licence, as the hub states it.

    Raises ValueError or TypeError if the revision is no commit, or the licence no text.
    """

    revision: str
    licence: str

    def __post_init__(self) -> None:
        check_digest(self.revision)
        if not isinstance(self.licence, str):
            raise TypeError("the licence is no text")


@dataclass(frozen=True)
class File:
    """One file of a model: its repository and path there, its size, its sha256.

    Raises ValueError or TypeError if it is a path, a size or a sha256 that none can be.
    """

    repository: str
    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_inside(self.path):
            raise ValueError(f"{self.path!r:.{SHOWN}} is outside the repository")
        check_size(self.bytes)
        check_digest(self.sha256, 64)


@dataclass(frozen=True)
class Locked:
    """A model: its repositories by name, its files by their path in the model's folder.

    Raises ValueError if there is no file, a path leads out of that folder, or a file comes from none of the repositories.
    """

    repositories: Mapping[str, Origin]
    files: Mapping[str, File]

    def __post_init__(self) -> None:
        for name in self.repositories:
            if not REPOSITORY.fullmatch(name) or not is_inside(name):
                raise ValueError(f"{name!r:.{SHOWN}} is no repository")
        if not self.files:
            raise ValueError("a model has no files")
        for path, file in self.files.items():
            if not is_inside(path):
                raise ValueError(f"{path!r:.{SHOWN}} is outside the model's folder")
            if file.repository not in self.repositories:
                raise ValueError(f"{path:.{SHOWN}} is of a repository that is not listed")

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def models_folder() -> Path:
    """Where models go: `$TENTH_MODELS`, else `tenth/models` under the user's cache directory."""
    return Path(os.environ.get("TENTH_MODELS") or cache_folder() / "tenth" / "models")


def folder_name(name: str) -> str:
    """The folder of a model among the others. A repository's name never has two hyphens side by side."""
    return name.replace("/", "--")


def read_lock(models: Path) -> dict[str, Locked]:
    """What is locked in a folder of models, by the names that users type; empty where there is no lock. Raises ModelError."""
    path = models / LOCK
    try:
        table = read_json(path, LOCK_BYTES)
        if table["format"] != FORMAT:
            raise ValueError(f"it has format {table['format']!r:.{SHOWN}}")
        return {_name(name): _locked(entry) for name, entry in table["models"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(
            f"{path} cannot be read ({malformed(problem)})",
            f"it says which bytes each model had, in format {FORMAT}",
            "Restore it from a copy, or remove it to accept the models as the hub has them now",
        ) from problem


def write_lock(models: Path, name: str, locked: Locked) -> None:
    """Lock a model, beside those that are; the file is replaced whole."""
    with claimed(models / f".{LOCK}.claim"):  # two models may be done at the same moment
        table = {each: asdict(entry) for each, entry in (read_lock(models) | {name: locked}).items()}
        write_json(models / LOCK, {"format": FORMAT, "models": table})


@contextmanager
def claimed(path: Path, *, wait: bool = True) -> Iterator[None]:
    """A claim on the name `path` while the block runs; the kernel lets go of it when a process dies, however.

    Raises BlockingIOError if another process has it and `wait` is not asked for, ModelError if the path is a link or no file:
    what a link leads to is not touched.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as problem:
        raise ModelError(
            f"{path} cannot be opened ({problem.strerror})", "a file of tenth's is there", "Remove it"
        ) from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def downloaded(name: str) -> Path:
    """The folder of a downloaded model, its files as locked. Asks no network. Raises ModelError if it is not here, or other."""
    folder, locked = models_folder() / folder_name(name), read_lock(models_folder()).get(name)
    if locked is None or not folder.is_dir():
        found = f"{name} is neither a folder nor a model that is downloaded" if "/" in name else f"{name} is not downloaded"
        raise ModelError(found, f"its files are needed in {folder}", f"Run `tenth models --download {name}`")
    _check(folder, name, locked)  # by its name: the folder may be a link to another disk, where no lock lies beside it
    return folder


def check_folder(folder: Path) -> None:
    """Raises ModelError unless every file is the locked one. A folder that no lock beside it names is not checked.

    A file is read again only when its size or its time of change is not what it was when its sha256 was last compared; a note
    in the folder says so. Bytes that change without either, as on a failing disk, are found by `tenth models --download`.
    """
    folder = folder.resolve()
    for name, locked in read_lock(folder.parent).items():
        if folder_name(name) == folder.name:
            _check(folder, name, locked)
            return


def _check(folder: Path, name: str, locked: Locked) -> None:
    if missing := [path for path in locked.files if not (folder / path).is_file()]:
        raise _other(name, f"{folder} has no {few(missing)}")
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
        with suppress(DataError):  # models that many share may lie where none of them writes: each run then reads them
            write_json(folder / CHECKED, stamps)


def stamp(path: Path, file: File) -> dict[str, Any]:
    """What shows without reading it that a file was not written since."""
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": file.sha256}


def _seen(folder: Path) -> dict[str, Any]:
    try:
        noted = read_json(folder / CHECKED, LOCK_BYTES)
    except (OSError, UnreadableError):
        return {}
    return noted if isinstance(noted, dict) else {}


def is_inside(path: Any) -> bool:
    """Whether a path with slashes names something below the folder that it is joined to, on any system."""
    if not isinstance(path, str) or len(path) > PATH_LENGTH or not path.isprintable() or "\\" in path:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= PART_LENGTH for part in path.split("/"))


def check_size(count: Any) -> None:
    """Raises ValueError unless it is a number of bytes."""
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= LARGEST:
        raise ValueError(f"{count!r:.{SHOWN}} is no size")


def check_digest(digest: Any, length: int = 0) -> None:
    """Raises ValueError unless it is a sha1 or a sha256 in lower-case hexadecimal digits; length: of these, which one."""
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest) or length not in (0, len(digest)):
        raise ValueError(f"{digest!r:.{SHOWN}} is no {f'{length}' if length else '40 or 64'} hexadecimal digits")


def malformed(problem: Exception) -> str:
    """What reading foreign data came upon, as a message shows it: another exception than ValueError says little by its text."""
    text = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
    return text[: 2 * SHOWN]


def _name(name: str) -> str:
    if not NAME.fullmatch(name) or not all(part.strip(".") for part in re.split(r"[/+]", name)):
        raise ValueError(f"{name!r:.{SHOWN}} is no name of a model")
    return name


def _locked(entry: Mapping[str, Any]) -> Locked:
    repositories = {name: Origin(**origin) for name, origin in entry["repositories"].items()}
    return Locked(repositories, {path: File(**file) for path, file in entry["files"].items()})


def _other(name: str, found: str) -> ModelError:
    return ModelError(
        found,
        f"{name} was locked with the bytes that {LOCK} lists",
        f"`tenth models --download {name}` gets those again; with --update it locks what the hub has now",
    )
