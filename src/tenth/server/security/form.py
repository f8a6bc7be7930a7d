"""Forms with photos, written to disk while they stream. Nothing that a client sends says where."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tenth.core.errors import DataError
from tenth.core.files.writing import PRIVATE_FILE_MODE, atomic_file, explain_os_errors
from tenth.core.wording import printable
from tenth.server.api.errors import RequestError
from tenth.server.settings import MB, UploadLimits

MAX_NAME_CHARS = 200  # of a file's name, which is text for messages and nothing else
Reserve = Callable[[int], None]  # of bytes before they are written; raises RequestError where there is no room


@dataclass(frozen=True)
class UploadedFile:
    """A file of a form: its field, the name that its sender gave it, the sha256 of its bytes, and where it is.

    The path has a name that nobody can guess or ask for; only what was looked at gets that of its sha256.
    """

    field: str
    name: str
    sha256: str
    path: Path


@dataclass
class Form:
    """What a form holds, in its order. values: field and text."""

    values: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    files: list[UploadedFile] = dataclasses.field(default_factory=list)


@dataclass
class _Part:
    """A part of a form that is being read. file_name: None for a value. header: name and value of the one that is read."""

    field: str = ""
    file_name: str | None = None
    value: bytearray = dataclasses.field(default_factory=bytearray)
    num_bytes: int = 0
    header: tuple[bytearray, bytearray] = dataclasses.field(default_factory=lambda: (bytearray(), bytearray()))


class FormReader:
    """Reads one form. The parser's calls gather what came; `flush` writes it, in a thread."""

    def __init__(self, folder: Path, limits: UploadLimits, reserve: Reserve) -> None:
        self.folder, self.limits, self.reserve = folder, limits, reserve
        self.form, self.ended = Form(), False
        self._part, self._num_parts, self._value_bytes = _Part(), 0, 0
        self._pending: list[tuple[_Part, bytes | None]] = []  # None: the part's end
        self._open, self._partial, self._digest = ExitStack(), Path(), hashlib.sha256()
        self._file: IO[bytes] | None = None

    async def read(self, request: Request) -> Form:
        """The form of a request. Raises RequestError if it is none, or is larger than the limits."""
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise RequestError(400, "no form", "a form of the type multipart/form-data is needed", "Send the photos as one")
        names = ("part_begin", "header_field", "header_value", "header_end", "part_data", "part_end", "end")
        callbacks: Any = {f"on_{name}": getattr(self, f"on_{name}") for name in names}
        try:
            parser = MultipartParser(options[b"boundary"], callbacks)
            async for chunk in request.stream():
                parser.write(chunk)
                if self._pending:
                    await asyncio.to_thread(self.flush)
        except FormParserError as problem:
            raise RequestError(400, "a form that is damaged", "a whole form is needed", "Send it again") from problem
        finally:
            await asyncio.to_thread(self.close)
        if not self.ended:
            raise RequestError(400, "a form that is cut short", "a whole form is needed", "Send it again")
        return self.form

    def flush(self) -> None:
        """Write what came to the disk. Raises RequestError if there is no room for it, DataError if the disk refuses."""
        pending, self._pending = self._pending, []
        for part, content in pending:
            if self._file is None:
                self._partial = self.folder / f"incoming-{secrets.token_hex(8)}"
                self._file = self._open.enter_context(atomic_file(self._partial, PRIVATE_FILE_MODE))
                self._digest = hashlib.sha256()
            if content is not None:
                self.reserve(len(content))
                self._digest.update(content)
                with explain_os_errors(self._partial):
                    self._file.write(content)
                continue

            self._file = None
            self._open.close()
            self.form.files.append(UploadedFile(part.field, part.file_name or "", self._digest.hexdigest(), self._partial))

    def close(self) -> None:
        """Remove what is half written."""
        if self._file is not None:
            self._file = None
            with suppress(DataError, OSError):
                self._open.close()
            self._partial.unlink(missing_ok=True)

    # What the parser calls
    def on_part_begin(self) -> None:
        self._part, self._num_parts = _Part(), self._num_parts + 1
        if self._num_parts > self.limits.parts:
            found, needed = f"a form of more than {self.limits.parts} parts", f"at most {self.limits.parts} are taken"
            raise RequestError(413, found, needed, "Send fewer photos at once")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header[0].extend(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header[1].extend(data[start:end])

    def on_header_end(self) -> None:
        name, value = self._part.header
        if bytes(name).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            self._part.field = _text(options.get(b"name", b""))
            self._part.file_name = _file_name(_text(options[b"filename"])) if b"filename" in options else None
        self._part.header = (bytearray(), bytearray())

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part, most = self._part, self.limits.photo_bytes
        if part.file_name is None:
            part.value.extend(data[start:end])
            self._value_bytes += end - start
            if self._value_bytes > self.limits.json_bytes:
                needed = f"at most {self.limits.json_bytes / MB:.0f} MB are taken"
                raise RequestError(413, "a form with more text", needed, "Send less", param=part.field)
            return
        part.num_bytes += end - start
        if part.num_bytes > most:
            found, needed = f"{part.file_name} has more than {most / MB:.0f} MB", f"a photo has at most {most / MB:.0f} MB"
            raise RequestError(413, found, needed, "Save a smaller copy of it", param=part.field)
        self._pending.append((part, data[start:end]))

    def on_part_end(self) -> None:
        if self._part.file_name is None:
            self.form.values.append((self._part.field, _text(bytes(self._part.value))))
        else:
            self._pending.append((self._part, None))

    def on_end(self) -> None:
        self.ended = True


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _file_name(name: str) -> str:
    """The last part of what a client calls a file, printable and not too long."""
    return printable(re.split(r"[/\\]", name)[-1])[:MAX_NAME_CHARS] or "photo"
