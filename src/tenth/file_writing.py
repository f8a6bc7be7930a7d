"""Files written whole, and claimed: under a private temporary name beside the target, flushed to the disk, then renamed.

A reader therefore sees the old content or the new, also after a power cut; two writers never share a temporary file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from tenth.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".part"  # how a temporary file's name ends


@contextmanager
def written(path: str | Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file that becomes `path` when the block ends without an exception; until then `path` stays as it was.

    mode: permissions, of which the process's umask takes away. Parent folders are made.
    Raises DataError if the disk is full or refuses.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(mode, exist_ok=False)
        with temporary.open("r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as problem:
        _refuse(path, problem)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file whole or not at all, and onto the disk. Raises as `written`."""
    with written(path, mode) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """As `write_text`: sorted keys, an indent of one. Raises ValueError for a number that is not finite, and writes nothing."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, mode: int = 0o666
) -> None:
    """As `write_bytes`: a safetensors file. Equal tensors and metadata give equal bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written(path, mode) as file:  # by its name: the whole is not held in memory a second time
        try:
            contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, file.name, dict(metadata or {}) or None)
        except SafetensorError as problem:
            full = f"os error {errno.ENOSPC}" in str(problem)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(problem)) from problem


@contextmanager
def written_folder(path: str | Path) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends without an exception, its files flushed to the disk first.

    Where `path` is a folder already, that one is replaced. Raises DataError if the disk is full or refuses.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for each in sorted(temporary.rglob("*")):
            flush_folder(each) if each.is_dir() else _flush(each)
        flush_folder(temporary)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        temporary.rename(path)
        flush_folder(path.parent)
    except OSError as problem:
        _refuse(path, problem)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_file(path: str | Path, target: str | Path) -> None:
    """A copy of a file, whole or not at all, and on the disk. Raises as `written`, OSError if the file cannot be read."""
    with Path(path).open("rb") as file, written(target) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


def move_file(path: str | Path, target: str | Path) -> None:
    """A file whose content is on the disk already to its place, which may be on another disk. Raises OSError."""
    path, target = Path(path), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        copy_file(path, target)
        path.unlink()
    flush_folder(target.parent)


@contextmanager
def claimed_folder(folder: str | Path) -> Iterator[None]:
    """The folder for this process alone while the block runs, by a lock on the folder itself: nothing is written into it.

    The folder is made where there is none. The system lets go of the claim when the process ends, however it ends.
    Raises DataError if another process has it, or it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        _refuse(folder, problem)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(
            f"another run is writing to {folder}", "a folder holds one run at a time", "Wait for it, or choose another folder"
        ) from None
    finally:
        os.close(descriptor)


def remove_temporary(folder: str | Path) -> None:
    """Remove what killed writers left in a folder. Only for who has claimed it."""
    for each in Path(folder).glob(f".*{TEMPORARY}"):
        shutil.rmtree(each, ignore_errors=True) if each.is_dir() and not each.is_symlink() else each.unlink(missing_ok=True)


def flush_folder(folder: str | Path) -> None:
    """Bring a folder's list of names onto the disk, where the system can."""
    with suppress(OSError):  # some systems open no folders, and lose nothing by it
        _flush(Path(folder))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(path: Path, problem: OSError) -> NoReturn:
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    raise DataError(
        f"{path} cannot be written ({problem.strerror or problem})",
        "room on the disk is needed" if full else "a place where this user may write is needed",
        "Make room and run the same again" if full else "Choose another place, or change its permissions",
    ) from problem


def _temporary(path: Path) -> Path:
    """A name beside the target that nobody else takes."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}{TEMPORARY}")
