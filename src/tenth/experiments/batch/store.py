"""Where a batch's files lie: a folder, or a store that fsspec opens, such as s3://bucket/faces. Files appear whole or not."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Protocol, TypeVar

from tenth.core.errors import CheckpointError, DataError, InputError
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.core.files.reading import MAX_TEXT_BYTES, open_regular
from tenth.core.files.writing import atomic_file, explain_os_errors, write_bytes
from tenth.core.wording import format_bytes

T = TypeVar("T")
ATTEMPTS, FIRST_PAUSE_SECONDS = 6, 0.25  # of a store that does not answer: in all some eight seconds, each pause twice the last
MAX_PAUSE_SECONDS = 8.0
LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)


class Store(Protocol):
    """Files by name, such as "shards/00000.tar". A name has its whole content, or does not exist.

    Raises DataError where a file cannot be written or the store does not answer, FileNotFoundError where one to read is not
    there.
    """

    address: str

    def names(self, folder: str = "") -> set[str]:
        """What is in a folder of the store, without temporary files; empty if there is none."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def read(self, name: str, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
        """The content of a small file. Raises DataError if it has more bytes."""
        ...

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file of any size, to be read from its beginning."""
        ...

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file that gets its name when the block ends without an exception, instead of what had it."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; False if it is, and then nothing is written."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """A block that one process runs at a time, where the store can tell. Raises CheckpointError if another does."""
        ...

    def remove_leftovers(self) -> None:
        """Remove temporary files of killed writers."""
        ...


def open_store(address: str) -> Store:
    """The store at an address: a folder's path, or a URL of fsspec's. Raises DataError for one that cannot be opened."""
    if "://" in address and not address.startswith("file://"):
        return ObjectStore(address)
    return FolderStore(address.removeprefix("file://"))


def sha256_in(store: Store, name: str) -> str:
    """sha256 of a file's content, hexadecimal. Raises FileNotFoundError."""
    with store.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it reads, which is all that is needed


class FolderStore:
    """A folder: written aside, flushed to the disk, renamed."""

    def __init__(self, address: str) -> None:
        self.folder = Path(address).absolute()
        self.address = str(self.folder)

    def names(self, folder: str = "") -> set[str]:
        return list_entries(self.folder / folder)

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
        with self.open(name) as file:
            return _read_at_most(file, name, max_bytes)

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return open_regular(self.folder / name, 1 << 50)

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return atomic_file(self.folder / name)

    def create(self, name: str, content: bytes) -> bool:
        try:
            write_bytes(self.folder / name, content, no_overwrite=True)
        except CheckpointError:
            return False
        return True

    def remove(self, name: str) -> None:
        with explain_os_errors(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with exclusive_folder(self.folder):
            yield

    def remove_leftovers(self) -> None:
        remove_temporary(self.folder)


class ObjectStore:
    """A store of fsspec's. A file is made on this machine's disk, then sent in one request, which the store takes or refuses.

    `create` is the store's conditional put where its file system has one (s3fs and gcsfs have); others look first, then write,
    so that of two writers at the same moment the later one stays. What fails for a while is tried again.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.files, self.root = _open_file_system(self.address)

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        """To another process goes the address: connections stay in theirs."""
        return ObjectStore, (self.address,)

    def names(self, folder: str = "") -> set[str]:
        def listed() -> set[str]:
            self.files.invalidate_cache()
            return {str(path).rstrip("/").rpartition("/")[2] for path in self.files.ls(self._path(folder), detail=False)}

        try:
            return self._patiently("be listed", listed)
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def size(self, name: str) -> int | None:
        def known() -> int:
            self.files.invalidate_cache()
            return int(self.files.info(self._path(name))["size"])

        try:
            return self._patiently(f"say what {name} is", known)
        except FileNotFoundError:
            return None

    def read(self, name: str, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(name)
        if size > max_bytes:
            raise _too_large(name, size)
        return self._patiently(f"give {name}", lambda: _whole(self.files.cat_file(self._path(name)), size))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(name)
        with scratch_file(name) as file:

            def fetch() -> None:
                file.seek(0)
                file.truncate()
                with self.files.open(self._path(name), "rb") as remote:
                    shutil.copyfileobj(remote, file, 1 << 20)
                if file.tell() != size:
                    raise OSError(f"{file.tell():,} of {size:,} bytes came")

            self._patiently(f"give {name}", fetch)
            file.seek(0)
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with scratch_file(name) as file:
            yield file
            file.flush()
            self._patiently(f"take {name}", lambda: self.files.put_file(file.name, self._path(name)))

    def create(self, name: str, content: bytes) -> bool:
        """As the protocol says. A put whose answer was lost finds its own content there, and counts as done."""

        def put() -> bool:
            try:
                self.files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            return True

        return self._patiently(f"take {name}", put) or self.read(name, len(content) + MAX_TEXT_BYTES) == content

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._patiently(f"remove {name}", lambda: self.files.rm_file(self._path(name)))

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()  # two runs at once draw the same bytes, and each shard counts once

    def remove_leftovers(self) -> None:
        """A request that was cut off leaves nothing."""

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """The result of a request. Raises DataError where the store still refuses after ATTEMPTS, or refuses for good."""
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except (FileNotFoundError, FileExistsError, InputError):
                raise
            except Exception as problem:
                if isinstance(problem, LASTING) or attempt == ATTEMPTS - 1:
                    text = str(problem) or type(problem).__name__
                    found = f"{self.address} does not {what} ({text})"
                    raise DataError(
                        found, "a store that answers is needed", "Look after it and run the same again"
                    ) from problem
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        raise AssertionError  # the last attempt returned or raised


def _open_file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it. Raises DataError."""
    needed, action = "a URL that fsspec can open is needed", "Correct it, or install what it says"
    try:
        from fsspec.core import url_to_fs
    except ImportError as problem:
        found = f"{address} is a URL, and fsspec is not installed"
        raise DataError(found, "`tenth[cluster]` is needed for stores", "Install it, or give a folder") from problem
    try:
        files, path = url_to_fs(address)
    except (ImportError, ValueError) as problem:
        raise DataError(f"{address} cannot be opened ({problem})", needed, action) from problem
    return files, str(path).rstrip("/")


@contextmanager
def scratch_file(name: str) -> Iterator[IO[bytes]]:
    """A file on this machine's disk that is removed with the block. Errors of the disk name what it is for."""
    with explain_os_errors(f"a temporary file for {name}"), NamedTemporaryFile(prefix="tenth-") as file:
        yield file


def _read_at_most(file: IO[bytes], name: str, max_bytes: int) -> bytes:
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(name, len(content))
    return content


def _whole(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise OSError(f"{len(content):,} of {size:,} bytes came")
    return content


def _too_large(name: str, size: int) -> DataError:
    return DataError(f"{name} has {format_bytes(size)}", "a file of a batch is needed", "Remove it and run the same again")
