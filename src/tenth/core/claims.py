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
from tenth.core.file_reading import is_litter
from tenth.core.file_writing import OURS, TARGET, TEMPORARY, lock, naming

CLAIM = ".claim"  # a file in a claimed folder, only where the system locks no folders

_claims = threading.local()  # .held: (process, device, inode) of the folders that this thread has


@contextmanager
def claimed_folder(folder: str | Path) -> Iterator[None]:
    """The folder for this thread alone while the block runs, by a lock on the folder itself: nothing is written into it.

    The folder is made where there is none, and goes again if nothing comes into it. Who has it may claim it again inside. The
    system lets go of the claim when the process ends, however it ends.
    Raises CheckpointError if another one has it, DataError if it cannot be made.
    """
    folder = Path(folder)
    made = not folder.exists()
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    held: set[tuple[int, int, int]] = _claims.__dict__.setdefault("held", set())
    state = os.fstat(descriptor)
    this = (os.getpid(), state.st_dev, state.st_ino)  # a process that was forked is another one
    try:
        if this in held:
            yield
            return
        with naming(folder):
            descriptor = _locked(folder, descriptor)
        held.add(this)
        try:
            yield
        finally:
            held.discard(this)
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()  # which it only can while nothing is in it
        os.close(descriptor)


def contents(folder: str | Path) -> set[str]:
    """Names of what is in a folder, without what writers or systems left there; empty where there is no folder."""
    try:
        return {name for name in os.listdir(folder) if not (name == CLAIM or OURS.fullmatch(name) or is_litter(name))}  # noqa: PTH208 - names
    except FileNotFoundError:
        return set()


def remove_temporary(folder: str | Path, *, below: bool = True) -> None:
    """Remove what killed writers left in a folder and, if wanted, below it; what is being written stays.

    A folder that was set aside for its successor, which never got the name, takes its place again.
    """
    for each in list(Path(folder).glob(f"{'**/' * below}.*{TEMPORARY}")):
        if found := OURS.fullmatch(each.name):
            _remove_left(each, each.with_name(found["target"]))


def remove_temporary_of(path: str | Path) -> None:
    """As `remove_temporary`, of what stands beside one file or folder and was to become it."""
    for each in list(Path(path).parent.glob(f".*{TEMPORARY}")):
        if (found := OURS.fullmatch(each.name)) and found["target"] == Path(path).name[:TARGET]:
            _remove_left(each, Path(path))


def _remove_left(left: Path, target: Path) -> None:
    with suppress(OSError):  # it is gone, or not ours to remove
        descriptor = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its writer lives, or nothing can be locked
            if (left / target.name).is_dir() and not os.path.lexists(target):
                (left / target.name).rename(target)
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        finally:
            os.close(descriptor)


def _locked(folder: Path, descriptor: int) -> int:
    """The descriptor of what is locked: the folder's, or, where folders cannot be locked, that of a file in it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(folder) from None
    except OSError:  # a network disk
        other = os.open(folder / CLAIM, os.O_RDWR | os.O_CREAT, 0o666)
        if not lock(other):
            os.close(other)
            raise _in_use(folder) from None
        os.close(descriptor)
        return other
    return descriptor


def _in_use(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"another run is writing to {folder}", "a folder holds one run at a time", "Wait for it, or choose another folder"
    )
