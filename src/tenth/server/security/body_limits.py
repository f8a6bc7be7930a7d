"""Bodies of requests, counted while they arrive: bytes, seconds, and how many at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from tenth.server.api.errors import RequestError
from tenth.server.settings import MB, UploadLimits

FORM = "multipart/form-data"
FORM_PATHS = ("/v1/photos", "/v1/images/edits")  # which read a form while it streams, into files
RETRY_SECONDS = 5  # after which an upload may find room
MAX_DIGITS = 15  # of a length
SMALL_BYTES, SMALL_SECONDS = 1 << 14, 0.1
LINGER_SECONDS = 2.0  # for which the rest of a refused body is read: a client that still sends would not see the answer


class RequestBody:
    """The body of one request. `receive` raises RequestError where it is too large or too slow.

    complete: whether all of it is here. is_form: whether it may be as large as photos are, which no header alone decides.
    """

    def __init__(self, scope: Scope, receive: Receive, limits: UploadLimits) -> None:
        headers = Headers(scope=scope)
        self._receive, self.limits = receive, limits
        self.is_form = scope["path"] in FORM_PATHS and headers.get("content-type", "").lower().startswith(FORM)
        self.max_bytes = limits.request_bytes if self.is_form else limits.json_bytes
        self.complete = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        self.num_bytes, self.seconds = 0, 0.0  # so far; seconds: waited for the client, not for this server
        length = headers.get("content-length", "")
        self.length = int(length) if length.isascii() and length.isdigit() and len(length) <= MAX_DIGITS else None

    def check_length(self) -> None:
        """Raises RequestError if the headers say that it is too large: nothing of it has to come then."""
        if self.length is not None and self.length > self.max_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next message, as ASGI has it."""
        if self.complete:
            return await self._receive()
        deadline = self.limits.grace_seconds + self.num_bytes / self.limits.min_bytes_per_second
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline - self.seconds)):
                message = await self._receive()
        except TimeoutError as problem:
            found = f"{self.num_bytes:,} bytes in {deadline:.0f} seconds"
            needed = f"at least {self.limits.min_bytes_per_second:,.0f} a second are needed"
            raise RequestError(408, found, needed, "Send it over a faster connection, or less at once") from problem
        self.seconds += time.monotonic() - began

        # Counted as it comes: what a header says of it may be anything.
        self.num_bytes += len(message.get("body", b""))
        self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self.num_bytes > self.max_bytes:
            raise self._too_large()
        return message

    async def end_if_small(self) -> None:
        """Read and drop the rest if it is a packet or two, which are here already: then the connection can go on."""
        if self.length is not None and self.length <= SMALL_BYTES:
            await self.linger(SMALL_SECONDS)

    async def linger(self, seconds: float = LINGER_SECONDS) -> None:
        """Read and drop the rest for a moment, so that a client which sends all before it reads sees the answer."""
        try:
            async with asyncio.timeout(seconds):
                while not self.complete:
                    message = await self._receive()
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            pass

    def _too_large(self) -> RequestError:
        kind = "request with photos" if self.is_form else "request"
        needed = f"a {kind} has at most {self.max_bytes / MB:.0f} MB"
        return RequestError(413, f"more than {self.max_bytes:,} bytes", needed, "Send fewer at once, or smaller ones")


class UploadSlots:
    """How many requests with photos are being received and looked at: those beyond are refused at once, and wait outside."""

    def __init__(self, limits: UploadLimits) -> None:
        self.limits = limits
        self._num_of: Counter[str] = Counter()

    @contextmanager
    def slot(self, client: str) -> Iterator[None]:
        """Room for one upload. Raises RequestError if there is none."""
        own, all_ = self._num_of[client], self._num_of.total()
        if own >= self.limits.at_once_per_owner or all_ >= self.limits.at_once:
            found = f"{own} uploads of yours are being received, {all_} of all"
            needed = f"at most {self.limits.at_once_per_owner} of one, {self.limits.at_once} of all, are taken at once"
            raise RequestError(429, found, needed, "Wait until one of them is done", retry_after=RETRY_SECONDS)
        self._num_of[client] += 1
        try:
            yield
        finally:
            self._num_of[client] -= 1
            if not self._num_of[client]:
                del self._num_of[client]
