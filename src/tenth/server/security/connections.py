"""Connections: how many are open, and how long one may be silent before its first request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from tenth.server.settings import RateLimits


def limited_protocol(limits: RateLimits) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which has neither limit: a client that never ends its headers would keep its connection for ever."""

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self.loop.call_later(limits.header_seconds, self.close_if_silent)

        def has_request(self) -> bool:
            """Whether a request has begun on it."""
            return self.cycle is not None

        def close_if_silent(self) -> None:
            """End a connection on which no request has begun."""
            if not self.has_request() and not self.transport.is_closing():
                self.transport.abort()

    return LimitedProtocol
