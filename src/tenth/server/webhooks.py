"""Telling another server that a job has ended: only hosts that the settings list, signed, and tried again.

The signature is that of Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature), which clients have libraries for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import sqlite3
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.concurrency import run_in_threadpool

from tenth.core.errors import DataError
from tenth.server.api.errors import RequestError
from tenth.server.security.hosts import is_address
from tenth.server.settings import ServerSettings
from tenth.server.storage.database import Database

SECRET_PREFIX = "whsec_"  # noqa: S105  # before the secret in base64
PORTS = {"http": 80, "https": 443}
WAITS = (5.0, 30.0, 300.0, 3_600.0)  # seconds before the second and later attempts; none after these
SEND_SECONDS, LOOK_SECONDS = 10.0, 1.0  # of one attempt; between two looks at what is to be sent
BATCH = 20  # sent between two looks
MakeMessage = Callable[[str, str], Mapping[str, Any] | None]  # a job's id and owner -> what is told of it, if it is there
NEVER = float("inf")  # the next attempt of what was taken or given up: it stays, as the job may be tried again and end again
DUE = """SELECT webhooks.job, url, webhooks.attempts, jobs.owner, jobs.status, jobs.finished
    FROM webhooks JOIN jobs ON jobs.id = webhooks.job
    WHERE next <= ? AND jobs.status IN ('done', 'failed', 'cancelled') ORDER BY next LIMIT ?"""


@dataclass(frozen=True)
class Target:
    """An address that may be told: its parts, and the port that they mean."""

    parts: SplitResult
    host: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def check_webhook(settings: ServerSettings, url: str) -> Target:
    """The parts of an address that the settings allow. Raises RequestError, which does not say whether such a host exists."""
    action = "Ask who runs this server, or look at the job instead"
    if not settings.webhook_hosts or not settings.webhook_secret:
        found, needed = "this server tells nobody", "webhook_hosts and webhook_secret in its settings are needed"
        raise RequestError(400, found, needed, action, param="webhook")
    needed = f"http or https to one of {', '.join(settings.webhook_hosts)} is needed, without a user name"
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise RequestError(400, "the webhook is no address", needed, action, param="webhook") from None
    host = (parts.hostname or "").rstrip(".")
    target = Target(parts, host, port)
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    listed = target.name in settings.webhook_hosts
    if not plain or parts.scheme not in PORTS or "@" in parts.netloc or not listed:
        raise RequestError(400, f"the webhook's host is {target.name!r:.100}", needed, action, param="webhook")
    return target


def resolve(target: Target) -> str:
    """The address of a target, looked up once. Raises DataError if it is unknown, or a name leads into a private network.

    A host that is listed as such an address, or as localhost, may be private: somebody chose it.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise DataError(f"the host {target.host} is unknown", "a host with an address is needed", "Check it") from problem
    addresses = [str(entry[4][0]) for entry in found]
    chosen_by_address = target.host == "localhost" or is_address(target.host)
    for address in addresses:
        number = ipaddress.ip_address(address.partition("%")[0])
        number = getattr(number, "ipv4_mapped", None) or number
        if not chosen_by_address and (not number.is_global or number.is_multicast):
            needed = "a name that leads out of the private network is needed, or the address itself in webhook_hosts"
            raise DataError(f"the host {target.host} is the private address {address}", needed, "List it by its address")
    return addresses[0]


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature. Source: Standard Webhooks, specification, "Verifying webhook authenticity".

    secret: as of `secret_key`.
    """
    digest = hmac.new(secret_key(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def secret_key(secret: str) -> bytes:
    """What messages are signed with. secret: `whsec_` and at least 24 bytes in base64. Raises DataError for another."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) < 24:
        found, needed = "webhook_secret is not usable", f"{SECRET_PREFIX} and at least 24 random bytes in base64 are needed"
        raise DataError(found, needed, f"Put {SECRET_PREFIX} before what `openssl rand -base64 32` prints")
    return key


def send(settings: ServerSettings, url: str, body: bytes, message_id: str) -> bool:
    """Send a message once; whether the receiver took it. A redirect is not followed: it is a refusal.

    Raises DataError or RequestError for an address that may not be told, any more.
    """
    target = check_webhook(settings, url)
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tenth",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(settings.webhook_secret, message_id, timestamp, body),
    }
    path = (target.parts.path or "/") + (f"?{target.parts.query}" if target.parts.query else "")
    with suppress(OSError, http.client.HTTPException):
        connection = _connect(target, resolve(target))
        try:
            connection.request("POST", path, body, headers)
            return 200 <= connection.getresponse().status < 300
        finally:
            connection.close()
    return False


def _connect(target: Target, address: str) -> http.client.HTTPConnection:
    """A connection to the very address that was checked; the host's name is in the request and in the certificate."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=SEND_SECONDS)
    plain = socket.create_connection((address, target.port), SEND_SECONDS)
    if target.parts.scheme == "https":
        plain = ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
    connection.sock = plain
    return connection


def add_webhook(database: Database, job_id: str, url: str) -> None:
    """Have a job's end told to an address, which `check_webhook` allowed. It goes with the job's row."""
    again = "ON CONFLICT DO UPDATE SET attempts = 0, next = 0 WHERE next = ?"
    with database.transaction() as transaction:
        transaction.execute(f"INSERT INTO webhooks VALUES (?, ?, 0, 0) {again}", (job_id, url, NEVER))


def deliver_due(settings: ServerSettings, database: Database, message: MakeMessage) -> int:
    """Send what is due, and how many that were."""
    due = database.rows(DUE, (time.time(), BATCH))
    for row in due:
        told = message(row["job"], row["owner"])
        body = json.dumps(told, ensure_ascii=False).encode()
        try:
            message_id = f"msg_{row['job']}_{row['finished'] * 1000:.0f}"  # of this end: a receiver may drop what it knows
            taken = told is None or send(settings, row["url"], body, message_id)
        except DataError as problem:
            print(problem, file=sys.stderr)
            taken = False
        except RequestError as problem:  # the settings changed since: it is never sent
            print(problem, file=sys.stderr)
            taken = True
        _record(database, row, taken=taken)
    return len(due)


def _record(database: Database, row: sqlite3.Row, *, taken: bool) -> None:
    """Note that the end in a row of DUE was told, or tried often enough, or when it is tried next.

    Nothing is noted of a job that was queued again meanwhile: its next end is to be told.
    """
    ends = taken or row["attempts"] >= len(WAITS)
    this_end = "job = ? AND url = ? AND (SELECT finished FROM jobs WHERE id = job) IS ?"
    which = (row["job"], row["url"], row["finished"])
    with database.transaction() as transaction:
        if ends and row["status"] == "done":  # which never ends again
            transaction.execute(f"DELETE FROM webhooks WHERE {this_end}", which)
        else:
            next_time = NEVER if ends else time.time() + WAITS[row["attempts"]]
            values = (row["attempts"] + 1, next_time, *which)
            transaction.execute(f"UPDATE webhooks SET attempts = ?, next = ? WHERE {this_end}", values)


@asynccontextmanager
async def webhooks_delivered(settings: ServerSettings, database: Database, message: MakeMessage) -> AsyncIterator[None]:
    """While the block runs, what is due is sent, one message after another. Nothing is looked at where nobody may be told."""

    async def deliver() -> None:
        while True:
            with suppress(DataError):  # of a disk that is full: the next look may be luckier
                if await run_in_threadpool(deliver_due, settings, database, message):
                    continue
            await asyncio.sleep(LOOK_SECONDS)

    task = asyncio.create_task(deliver()) if settings.webhook_hosts and settings.webhook_secret else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
