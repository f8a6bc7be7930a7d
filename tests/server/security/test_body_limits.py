"""Bodies of requests: how fast they come, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tenth.server.security.body_limits import RequestBody, UploadSlots
from tenth.server.settings import UploadLimits


def body(chunks: list[bytes], seconds: float, limits: UploadLimits) -> RequestBody:
    """A body of which a chunk comes after so many seconds each."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            await asyncio.sleep(seconds)
            yield chunk

    messages = stream()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(messages, b""), "more_body": True}

    headers = [(b"transfer-encoding", b"chunked"), (b"content-type", b"multipart/form-data")]
    return RequestBody({"type": "http", "path": "/v1/photos", "headers": headers}, receive, limits)


def test_a_slow_upload_is_ended() -> None:
    limits = UploadLimits(grace_seconds=0.1, min_bytes_per_second=1000.0)

    async def read(chunks: list[bytes], seconds: float) -> int:
        slow = body(chunks, seconds, limits)
        for _ in chunks:
            await slow.receive()
        return slow.num_bytes

    assert asyncio.run(read([b"a" * 1000] * 3, 0.0)) == 3000
    with pytest.raises(Exception, match="at least 1,000 a second are needed") as caught:
        asyncio.run(read([b"a"] * 20, 0.02))
    assert getattr(caught.value, "status", None) == 408


def test_uploads_at_once_are_few() -> None:
    slots = UploadSlots(UploadLimits(at_once=3, at_once_per_owner=2))
    with slots.slot("anna"), slots.slot("anna"):
        with pytest.raises(Exception, match="2 uploads of yours") as caught, slots.slot("anna"):
            pass
        assert getattr(caught.value, "status", None) == 429
        assert getattr(caught.value, "retry_after", 0) > 0
        with slots.slot("ben"), pytest.raises(Exception, match="3 of all"), slots.slot("cleo"):
            pass
    with slots.slot("anna"):
        pass
    assert slots._num_of == {}
