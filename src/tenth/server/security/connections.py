"""Connections: how many are open, how long one may be silent before a request, and how long a request's head may be."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenth.server.settings import RateLimits

MAX_HEAD_BYTES = 1 << 16  # of request line, headers and trailers, beyond the first read of at most 256 kB


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which has none of these limits: a head that never ends would keep its connection and fill memory."""

    limits = RateLimits()
    head_ends: asyncio.TimerHandle | None = None  # when the connection is ended if a head is not there until then
    head_bytes = 0  # that came since the request began and are none of its body, whose limits are in body_limits.py

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self.await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.head_bytes = 0
        if self.head_ends is None:  # not the connection's first request
            self.await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.cancel_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        super().on_message_complete()

    def await_head(self) -> None:
        """End the connection unless a head is there in time."""
        self.head_ends = self.loop.call_later(self.limits.header_seconds, self.transport.abort)

    def cancel_timer(self) -> None:
        """The head is there, or the connection has ended."""
        if self.head_ends is not None:
            self.head_ends.cancel()
            self.head_ends = None


def limited_protocol(rates: RateLimits) -> type[asyncio.Protocol]:
    """The protocol with these limits: uvicorn makes one of each connection."""

    class WithLimits(LimitedProtocol):
        limits = rates

    return WithLimits
