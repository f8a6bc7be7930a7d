"""Folders claimed for one writer at a time, and what killed writers left in them."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import is_system_file
from tenth.core.files.writing import MAX_TARGET_CHARS, TEMPORARY_NAME, TEMPORARY_SUFFIX, explain_os_errors, try_lock

LOCK_FILE = ".claim"  # a file in a claimed folder, only where the system locks no folders

_thread_locks = threading.local()  # .held: (process, device, inode) of the folders that this thread has


@contextmanager
def exclusive_folder(folder: str | Path) -> Iterator[None]:
    """The folder for this thread alone while the block runs, by a lock on the folder itself: nothing is written into it.

    The folder is made where there is none, and goes again if nothing comes into it. Who has it may claim it again inside. The
    system lets go of the claim when the process ends, however it ends.
    Raises CheckpointError if another one has it, DataError if it cannot be made.
    """
    folder = Path(folder)
    created = not folder.exists()
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    held: set[tuple[int, int, int]] = _thread_locks.__dict__.setdefault("held", set())
    state = os.fstat(descriptor)
    key = (os.getpid(), state.st_dev, state.st_ino)  # a process that was forked is another one
    try:
        if key in held:
            yield
            return
        with explain_os_errors(folder):
            descriptor = _lock_folder(folder, descriptor)
        held.add(key)
        try:
            yield
        finally:
            held.discard(key)
    finally:
        if created:
            with suppress(OSError):
                folder.rmdir()  # which it only can while nothing is in it
        os.close(descriptor)


def list_entries(folder: str | Path) -> set[str]:
    """Names of what is in a folder, without what writers or systems left there; empty where there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names
        return {name for name in names if not (name == LOCK_FILE or TEMPORARY_NAME.fullmatch(name) or is_system_file(name))}
    except FileNotFoundError:
        return set()


def remove_temporary(folder: str | Path, *, recursive: bool = True) -> None:
    """Remove what killed writers left in a folder and, if wanted, below it; what is being written stays.

    A folder that was set aside for its successor, which never got the name, takes its place again.
    """
    for path in list(Path(folder).glob(f"{'**/' * recursive}.*{TEMPORARY_SUFFIX}")):
        if match := TEMPORARY_NAME.fullmatch(path.name):
            _remove_leftover(path, path.with_name(match["target"]))


def remove_temporary_of(path: str | Path) -> None:
    """As `remove_temporary`, of what stands beside one file or folder and was to become it."""
    for leftover in list(Path(path).parent.glob(f".*{TEMPORARY_SUFFIX}")):
        if (match := TEMPORARY_NAME.fullmatch(leftover.name)) and match["target"] == Path(path).name[:MAX_TARGET_CHARS]:
            _remove_leftover(leftover, Path(path))


def _remove_leftover(leftover: Path, target: Path) -> None:
    with suppress(OSError):  # it is gone, or not ours to remove
        descriptor = os.open(leftover, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its writer lives, or nothing can be locked
            if (leftover / target.name).is_dir() and not os.path.lexists(target):
                (leftover / target.name).rename(target)
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
        finally:
            os.close(descriptor)


def _lock_folder(folder: Path, descriptor: int) -> int:
    """The descriptor of what is locked: the folder's, or, where folders cannot be locked, that of a file in it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(folder) from None
    except OSError:  # a network disk
        lock_file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        if not try_lock(lock_file):
            os.close(lock_file)
            raise _in_use(folder) from None
        os.close(descriptor)
        return lock_file
    return descriptor


def _in_use(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"another run is writing to {folder}", "a folder holds one run at a time", "Wait for it, or choose another folder"
    )
