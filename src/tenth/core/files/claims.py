"""One writer at a time in a folder, and removal of the temporary files that killed writers left."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import is_system_file
from tenth.core.files.writing import MAX_TARGET_CHARS, TEMPORARY_NAME, TEMPORARY_SUFFIX, explain_os_errors, try_lock

LOCK_FILE = ".claim"  # the locked file, only where the file system cannot lock folders

_thread_locks = threading.local()  # .held: (process, device, inode) of the folders that this thread has locked


@contextmanager
def exclusive_folder(folder: str | Path) -> Iterator[None]:
    """Lock a folder for this thread while the block runs. The lock is on the folder itself: nothing is written into it.

    The folder is made if it is missing, and removed again if it is still empty at the end. The thread that holds it may lock it
    again inside. The system releases the lock when the process ends, also when it is killed.
    Raises CheckpointError if another process or thread holds it, DataError if it cannot be made.
    """
    folder = Path(folder)
    created = not folder.exists()
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        state = folder.stat()

    # Whoever holds the folder may claim it again inside. A forked process is another one.
    held: set[tuple[int, int, int]] = _thread_locks.__dict__.setdefault("held", set())
    key = (os.getpid(), state.st_dev, state.st_ino)
    if key in held:
        yield
        return

    with explain_os_errors(folder):
        descriptor = _lock_folder(folder)
    held.add(key)
    try:
        yield
    finally:
        held.discard(key)
        if created:
            with suppress(OSError):
                folder.rmdir()  # succeeds only while the folder is empty
        os.close(descriptor)  # releases the lock


def list_entries(folder: str | Path) -> set[str]:
    """Names in a folder, without temporary, lock and system files. Empty if there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names
        return {name for name in names if not (name == LOCK_FILE or TEMPORARY_NAME.fullmatch(name) or is_system_file(name))}
    except FileNotFoundError:
        return set()


def remove_temporary(folder: str | Path, *, recursive: bool = True) -> None:
    """Remove temporary files of killed writers in a folder; recursive: and below it. What is being written now stays.

    A folder that was set aside for a new version that never got its name is restored.
    """
    for path in list(Path(folder).glob(f"{'**/' * recursive}.*{TEMPORARY_SUFFIX}")):
        if match := TEMPORARY_NAME.fullmatch(path.name):
            _remove_leftover(path, path.with_name(match["target"]))


def remove_temporary_of(path: str | Path) -> None:
    """As `remove_temporary`, but only temporary files of one file or folder, which lie beside it."""
    for leftover in list(Path(path).parent.glob(f".*{TEMPORARY_SUFFIX}")):
        if (match := TEMPORARY_NAME.fullmatch(leftover.name)) and match["target"] == Path(path).name[:MAX_TARGET_CHARS]:
            _remove_leftover(leftover, Path(path))


def is_real_folder(path: Path) -> bool:
    """Whether it is a folder, and no link to one: what is removed is what lies there, never what a link leads to."""
    return path.is_dir() and not path.is_symlink()


def remove_folder(folder: str | Path) -> None:
    """Remove a folder and all in it, as a whole: it loses its name first; a link stays, and what it leads to.

    Raises CheckpointError if another process has it.
    """
    folder = Path(folder)
    if not is_real_folder(folder):
        return
    with exclusive_folder(folder):
        aside = folder.with_name(f".{folder.name[:MAX_TARGET_CHARS]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _remove_leftover(leftover: Path, target: Path) -> None:
    """Remove a temporary file or folder whose writer is gone, or give a folder that was set aside its name back."""
    from filelock import lock_descriptor

    with suppress(OSError):  # already gone, or no permission
        descriptor = os.open(leftover, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if not lock_descriptor(descriptor, blocking=False):  # raises OSError where the file system has no locks
                return  # its writer lives
            if (leftover / target.name).is_dir() and not os.path.lexists(target):
                (leftover / target.name).rename(target)
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
        finally:
            os.close(descriptor)


def _lock_folder(folder: Path) -> int:
    """An open descriptor that holds the lock: of the folder or, where folders cannot be locked, of a file in it."""
    from filelock import lock_descriptor

    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        locked = lock_descriptor(descriptor, blocking=False)
    except OSError:  # a network disk
        os.close(descriptor)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        locked = try_lock(descriptor)
    if not locked:
        os.close(descriptor)
        found, action = f"another run is writing to {folder}", "Wait for it, or choose another folder"
        raise CheckpointError(found, "a folder holds one run at a time", action)
    return descriptor
