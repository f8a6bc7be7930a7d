"""Photos that were uploaded and that no person has yet: `uploads/OWNER/SHA256` in the data folder, for a day."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import Request

from tenth.core.files.claims import is_real_folder, remove_temporary
from tenth.core.files.writing import explain_os_errors, make_private_folder, move_file
from tenth.server.api.errors import RequestError
from tenth.server.owners import staged_path, staging_folder
from tenth.server.security.form import Form, FormReader, UploadedFile
from tenth.server.security.photo_child import THUMBNAIL_SUFFIX, PhotoChild
from tenth.server.settings import MB, ServerSettings


class StagedPhotos:
    """The staged photos of a server: received, inspected in a child process, counted, and removed after a day."""

    def __init__(self, settings: ServerSettings) -> None:
        self.data, self.limits, self.child = settings.data, settings.uploads, PhotoChild(settings.photo_child)
        self._bytes_of: dict[str, int] = {}  # owner -> of staged photos, counted when asked first
        self._lock = threading.Lock()

    @asynccontextmanager
    async def received(self, request: Request, owner: str) -> AsyncIterator[Form]:
        """The form of a request. At the end of the block its files are gone, but for those that `inspect` has staged.

        Raises RequestError where it is too large, DataError if the disk refuses.
        """
        folder = make_private_folder(staging_folder(self.data, owner))
        reader = FormReader(folder, self.limits, lambda num_bytes: self._reserve(owner, num_bytes))
        try:
            yield await reader.read(request)
        finally:
            for file in reader.form.files:
                file.path.unlink(missing_ok=True)
                _thumbnail_path(file.path).unlink(missing_ok=True)

    async def inspect(self, files: list[UploadedFile]) -> list[dict[str, Any]]:
        """A verdict on each file, as POST /v1/photos answers it. A photo is staged: it gets the name of its sha256 now.

        A file that is no photo has no sha256.
        """
        first = {file.sha256: file for file in reversed(files)}
        alone = dict.fromkeys(first[file.sha256] for file in files)
        verdicts = await self.child.inspect({file.path: file.name for file in alone})
        rows = []
        for file in files:
            earlier = first[file.sha256]
            verdict: Mapping[str, Any] = verdicts[earlier.path]
            if file is not earlier:
                sentence = f"it is the same file as {earlier.name}; remove one of the two"
                verdict = {**verdict, "accepted": False, "code": "duplicate", "reason": sentence}
            elif verdict["width"] is not None:
                await asyncio.to_thread(_stage, file)
            rows.append({"sha256": None if verdict["width"] is None else file.sha256, "file": file.name, **verdict})
        return rows

    def thumbnail(self, owner: str, sha256: str) -> Path | None:
        """The thumbnail of an owner's own staged photo, or None."""
        path = staged_path(self.data, owner, sha256)
        thumbnail = path and _thumbnail_path(path)
        return thumbnail if thumbnail and thumbnail.is_file() else None

    def remove_old(self) -> int:
        """Remove what killed uploads left, and photos that have waited too long. Returns how many."""
        folder, removed = self.data / "uploads", 0
        remove_temporary(folder)
        limit = time.time() - self.limits.staged_hours * 3600
        for path in folder.glob("*/*"):
            with suppress(FileNotFoundError):  # whoever used it was quicker
                if is_real_folder(path.parent) and path.lstat().st_mtime < limit:
                    path.unlink()
                    removed += path.suffix != THUMBNAIL_SUFFIX
        with self._lock:
            self._bytes_of.clear()
        return removed

    def _reserve(self, owner: str, num_bytes: int) -> None:
        """Count bytes that will be written. Raises RequestError if an owner has too many, or the disk is nearly full."""
        folder = staging_folder(self.data, owner)
        with self._lock:
            known = self._bytes_of.get(owner)
            if known is None or known + num_bytes > self.limits.staged_bytes:  # some may have been replaced, used or removed
                known = _bytes_in(folder)
            found = self._bytes_of[owner] = known + num_bytes
        if found > self.limits.staged_bytes:
            needed = f"at most {self.limits.staged_bytes / MB:,.0f} MB of photos wait to be used"
            raise RequestError(413, f"{found / MB:,.0f} MB of your photos", needed, "Save a person with them, or wait a day")
        if shutil.disk_usage(folder).free < self.limits.free_bytes + num_bytes:
            needed = f"{self.limits.free_bytes / MB:,.0f} MB of the disk stay free"
            raise RequestError(507, "the server's disk is nearly full", needed, "Make room on it, then send them again")


def _thumbnail_path(photo: Path) -> Path:
    return photo.with_name(f"{photo.name}{THUMBNAIL_SUFFIX}")


def _stage(file: UploadedFile) -> None:
    """Give a photo, and its thumbnail before, the name of its sha256. Raises DataError if the disk refuses."""
    staged = file.path.with_name(file.sha256)
    with explain_os_errors(staged):
        move_file(_thumbnail_path(file.path), _thumbnail_path(staged))
        move_file(file.path, staged)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # whoever used it was quicker
            total += path.stat().st_size if path.is_file() else 0
    return total
