"""Photos that were uploaded and that no person has yet: `uploads/OWNER/SHA256` in the data folder, for a day."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import Request

from tenth.core.files.claims import is_real_folder, remove_temporary
from tenth.core.files.writing import make_private_folder
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

    async def receive(self, request: Request, owner: str) -> Form:
        """The form of a request, its files staged. Raises RequestError where it is too large, DataError if the disk refuses."""
        folder = make_private_folder(staging_folder(self.data, owner))
        return await FormReader(folder, self.limits, lambda num_bytes: self._reserve(owner, num_bytes)).read(request)

    async def inspect(self, files: list[UploadedFile]) -> list[dict[str, Any]]:
        """A verdict on each file, as POST /v1/photos answers it. A file that is no photo is not kept, and has no sha256."""
        names = {file.path: file.name for file in reversed(files)}
        verdicts = await self.child.inspect({path: names[path] for path in dict.fromkeys(file.path for file in files)})
        rows, seen = [], set[Path]()
        for file in files:
            verdict: Mapping[str, Any] = verdicts[file.path]
            if file.path in seen:
                sentence = f"it is the same file as {names[file.path]}; remove one of the two"
                verdict = {**verdict, "accepted": False, "code": "duplicate", "reason": sentence}
            seen.add(file.path)
            is_photo = verdict["width"] is not None
            rows.append({"sha256": file.sha256 if is_photo else None, "file": file.name, **verdict})
            if not is_photo:
                file.path.unlink(missing_ok=True)
        return rows

    def thumbnail(self, owner: str, sha256: str) -> Path | None:
        """The thumbnail of an owner's own staged photo, or None."""
        path = staged_path(self.data, owner, sha256)
        thumbnail = path and path.with_name(f"{path.name}{THUMBNAIL_SUFFIX}")
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
            if owner not in self._bytes_of:
                self._bytes_of[owner] = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            self._bytes_of[owner] += num_bytes
            found = self._bytes_of[owner]
        if found > self.limits.staged_bytes:
            with self._lock:
                self._bytes_of.pop(owner, None)  # counted anew: some may have been used or removed
            needed = f"at most {self.limits.staged_bytes / MB:,.0f} MB of photos wait to be used"
            raise RequestError(413, f"{found / MB:,.0f} MB of your photos", needed, "Save a person with them, or wait a day")
        if shutil.disk_usage(folder).free < self.limits.free_bytes + num_bytes:
            needed = f"{self.limits.free_bytes / MB:,.0f} MB of the disk stay free"
            raise RequestError(507, "the server's disk is nearly full", needed, "Make room on it, then send them again")
