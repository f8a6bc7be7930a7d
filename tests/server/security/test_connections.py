"""Clients that are silent, or speak before they listen: of a real server, as sockets see it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from running_server import RunningServer, running_server

SETTINGS = """
[uploads]
json_bytes = 1000
grace_seconds = 0.5
at_once_per_owner = 1
[rates]
header_seconds = 3.0
connections = 5
"""
WAIT_SECONDS = 30
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    with running_server(folder / "data", "--settings", str(folder / "settings.toml")) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), WAIT_SECONDS)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection, which it has to."""
    received = b""
    try:
        while some := connection.recv(1 << 16):
            received += some
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Header: a"])
def test_a_connection_without_a_request_ends(begun: bytes, server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(begun)
        assert answer(connection) == b""


def test_a_second_request_has_to_come_in_time_too(server: RunningServer) -> None:
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    with connect(server) as connection:
        connection.sendall(whole + b"\r\n" + whole + b"X-Header: a")
        assert answer(connection).count(b"HTTP/1.1 ") == 1


ENDLESS = {
    "header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Header: ",
    "address": b"GET /health?",
    "trailer": b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
}


@pytest.mark.parametrize("begun", ENDLESS.values(), ids=ENDLESS)
def test_a_head_that_never_ends_fills_no_memory(begun: bytes, server: RunningServer) -> None:
    sent = 0
    with connect(server) as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(begun)
        while sent < 1 << 26:
            connection.sendall(b"a" * (1 << 16))
            sent += 1 << 16
    assert sent < 1 << 24  # what the system's own buffers take


def test_connections_are_few(server: RunningServer) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    many = [connect(server) for _ in range(5)]
    with connect(server) as connection:
        connection.sendall(request)
        assert answer(connection) == b""
    for silent in many:
        silent.close()
    with connect(server) as connection:
        connection.sendall(request)
        assert answer(connection).startswith(b"HTTP/1.1 200 ")


def head(kind: str, length: int) -> bytes:
    path = "/v1/photos" if kind.startswith("multipart") else "/v1/session"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def test_whoever_sends_all_before_reading_sees_the_reason(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(head("application/json", 3_000_000) + bytes(3_000_000))
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received.lower()
    assert b'"found":"more than 1,000 bytes"' in received


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=a"])
def test_whoever_sends_nothing_is_told_and_dropped(kind: str, server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(head(kind, 500) + b"-")
        assert answer(connection).startswith(b"HTTP/1.1 408 ")
    with connect(server) as first, connect(server) as second:
        first.sendall(head("multipart/form-data; boundary=a", 500))
        second.sendall(head("multipart/form-data; boundary=a", 500))
        statuses = sorted([answer(first)[9:12], answer(second)[9:12]])
    assert statuses == [b"408", b"429"]


def test_a_request_that_is_no_http_is_refused(server: RunningServer) -> None:
    for nonsense in (
        b"\x16\x03\x01 a TLS hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    ):
        with connect(server) as connection:
            connection.sendall(nonsense)
            assert answer(connection).startswith(b"HTTP/1.1 400 ")


def test_a_websocket_is_none(server: RunningServer) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n"
    with connect(server) as connection:
        connection.sendall(b"GET /v1/photos HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
        connection.settimeout(5)
        assert b"101" not in connection.recv(100)
