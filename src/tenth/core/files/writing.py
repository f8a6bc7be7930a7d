"""Write files atomically: to a temporary file beside the target, flushed to the disk, then renamed.

A reader sees the old content or the new, also after a power failure, and no two writers share a temporary file. The writer
holds a lock on the temporary file, which tells it from the file of a killed writer.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tenth.core.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY_SUFFIX = ".part"
MAX_TARGET_CHARS = 100  # of the target's name in a temporary name
TEMPORARY_NAME = re.compile(rf"\.(?P<target>.+)\.[0-9a-f]{{16}}{re.escape(TEMPORARY_SUFFIX)}", re.DOTALL)
PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE = 0o600, 0o700  # of data that identifies a person: for its owner only
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_HARD_LINK_ERRNOS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def atomic_file(path: str | Path, mode: int = 0o666, *, no_overwrite: bool = False) -> Iterator[IO[bytes]]:
    """A file that becomes `path` when the block ends without an exception; until then `path` is unchanged.

    mode: permissions before the umask. no_overwrite: no other file is replaced; an existing one with the same bytes stays.
    Parent folders are created.
    Raises DataError if the disk is full or refuses, CheckpointError if `no_overwrite` and a file with other bytes is there.
    """
    path = Path(path)
    with explain_os_errors(path):
        temporary, descriptor = _create_temporary(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _move_into_place(temporary, path, no_overwrite)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, mode: int = 0o666, *, no_overwrite: bool = False) -> None:
    """Write a file atomically and durably. Raises as `atomic_file`."""
    with atomic_file(path, mode, no_overwrite=no_overwrite) as file:
        file.write(content)


def write_if_changed(path: str | Path, content: bytes) -> None:
    """As `write_bytes`; a file that has this content already is not touched."""
    path = Path(path)
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    write_bytes(path, content)


def write_text(path: str | Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """As `write_text`: sorted keys, an indent of one. Raises ValueError for a number that is not finite, and writes nothing."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    mode: int = 0o666,
    *,
    no_overwrite: bool = False,
) -> None:
    """As `write_bytes`: a safetensors file. Equal tensors and metadata give equal bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # In a folder of its own: `save_file` replaces the file that it is given instead of writing to it.
    path = Path(path)
    with explain_os_errors(path), _temporary_folder(path) as folder:
        file = folder / "content"
        file.touch(mode)
        permissions = file.stat().st_mode & 0o777
        try:
            save_file({name: each.detach().contiguous() for name, each in tensors.items()}, file, dict(metadata or {}) or None)
        except SafetensorError as problem:
            raise as_os_error(problem) from problem
        file.chmod(permissions)
        _fsync(file)
        _move_into_place(file, path, no_overwrite)


@contextmanager
def atomic_folder(path: str | Path, mode: int = 0o777, *, no_overwrite: bool = False) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends without an exception, its files flushed to the disk first.

    An existing folder is replaced; no_overwrite: only an empty one. Raises DataError if the disk is full or refuses,
    CheckpointError if `no_overwrite` and a folder with something in it is there.
    """
    path = Path(path)
    with explain_os_errors(path), _temporary_folder(path, mode) as temporary:
        yield temporary

        # All content onto the disk, before the folder gets its name.
        for entry in sorted(temporary.rglob("*")):
            fsync_folder(entry) if entry.is_dir() else _fsync(entry)
        fsync_folder(temporary)
        if path.is_dir() and not path.is_symlink() and not no_overwrite:
            # The old one is renamed first, not removed: removal takes time, in which the process may be killed.
            with _temporary_folder(path) as previous:
                path.rename(previous / path.name)
                try:
                    temporary.rename(path)
                except OSError:
                    (previous / path.name).rename(path)
                    raise
                fsync_folder(path.parent)
        else:
            try:
                temporary.rename(path)
            except OSError as problem:
                if no_overwrite and problem.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise CheckpointError(
                        f"{path} exists", "a new folder is needed", "Choose another, or remove it"
                    ) from problem
                raise
            fsync_folder(path.parent)


def copy_file(path: str | Path, target: str | Path, mode: int = 0o666) -> None:
    """Copy a file atomically and durably. Raises as `atomic_file`, OSError if the source cannot be read."""
    with Path(path).open("rb") as file, atomic_file(target, mode) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


def move_file(path: str | Path, target: str | Path) -> None:
    """Move a file that was flushed already; the target may be on another disk. Raises OSError."""
    path, target = Path(path), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        copy_file(path, target)
        path.unlink()
    fsync_folder(target.parent)


def make_private_folder(folder: str | Path) -> Path:
    """Create a folder that only its owner can read, or make an existing one so. Raises DataError if that fails."""
    folder = Path(folder)
    with explain_os_errors(folder):
        folder.mkdir(PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(PRIVATE_FOLDER_MODE)
    return folder


def fsync_folder(folder: str | Path) -> None:
    """Flush a folder's list of names to the disk, if the system can. Raises OSError if the disk is full or fails."""
    try:
        _fsync(Path(folder))
    except OSError as problem:  # some systems cannot open folders, and need no flush
        if problem.errno in (*DISK_FULL_ERRNOS, errno.EIO):
            raise


@contextmanager
def explain_os_errors(path: str | Path) -> Iterator[None]:
    """Turn OSError in the block into DataError that names the path: for a full disk the system names none."""
    try:
        yield
    except OSError as problem:
        needed, action = "a place where this user may write is needed", "Choose another place, or change its permissions"
        if problem.errno in DISK_FULL_ERRNOS:
            needed, action = "room on the disk is needed", "Make room and run the same again"
        elif problem.errno == errno.EIO:
            needed, action = (
                "a disk that takes it is needed",
                "Look after the disk and run the same again, or choose another place",
            )
        raise DataError(f"{path} cannot be written ({problem.strerror or problem})", needed, action) from problem


def as_os_error(problem: Exception) -> OSError:
    """An error of safetensors about the disk, as the OSError that it was."""
    full = f"os error {errno.ENOSPC}" in str(problem)
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else OSError(errno.EIO, str(problem))


def _create_temporary(path: Path, flags: int, mode: int) -> tuple[Path, int]:
    """A temporary file beside a target, or a folder without O_CREAT in the flags, and a descriptor that locks it while open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        temporary = path.with_name(f".{path.name[:MAX_TARGET_CHARS]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        if not flags & os.O_CREAT:
            temporary.mkdir(mode)
        descriptor = os.open(temporary, flags, mode)
        if try_lock(descriptor) and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)  # another process removed it, before it was locked, as that of a killed writer


@contextmanager
def _temporary_folder(path: Path, mode: int = PRIVATE_FOLDER_MODE) -> Iterator[Path]:
    """A temporary folder beside a target, locked while the block runs and removed then."""
    temporary, descriptor = _create_temporary(path, os.O_RDONLY, mode)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _move_into_place(temporary: Path, path: Path, no_overwrite: bool) -> None:
    """Give a temporary file or folder, which was flushed already, its name."""
    if not no_overwrite:
        temporary.replace(path)
    elif not _try_link(temporary, path) and not (path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
        found = f"{path} exists and is not what would be written"
        raise CheckpointError(found, "a new path is needed, so that nothing is lost", "Choose another -o, or remove it")
    fsync_folder(path.parent)


def _try_link(temporary: Path, path: Path) -> bool:
    """Give a name without ever replacing another file. False if there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as problem:
        if problem.errno not in NO_HARD_LINK_ERRNOS:
            raise
        if os.path.lexists(path):
            return False
        temporary.rename(path)
    return True


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder for this process. False if another process holds the lock; closing it releases the lock.

    True where the file system has no locks. The system releases the lock of a process that is killed.
    """
    from filelock import lock_descriptor  # on first use: most commands that only look write nothing

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
