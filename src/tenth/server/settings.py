"""What a server is started with: `tenth serve --settings FILE.toml` gives any of it, and options come before the file."""

from __future__ import annotations

import ipaddress
from dataclasses import field
from typing import Annotated

from pydantic import Field

from tenth.core.config import Count, FilePath, Positive, WholeNumber, config_dataclass
from tenth.core.places import data_dir

DEFAULT_PORT = 7310
MB = 1_000_000
Port = Annotated[int, Field(ge=0, le=65535)]


@config_dataclass
class UploadLimits:
    """How much a client may send. Bytes are counted while they arrive, whatever a header says.

    photo_bytes, request_bytes: of one photo, and of a request with photos; json_bytes: of any other request.
    parts: of a form. at_once, at_once_per_owner: requests with photos that are being received.
    min_bytes_per_second: averaged over a request's time after its first grace_seconds; a slower one is ended with 408.
    staged_bytes: of all photos of an owner that no person has yet. free_bytes: left on the disk, or no upload is taken.
    staged_hours: after which a photo that no person has is removed.
    """

    photo_bytes: Count = 30 * MB  # a phone's photo has up to 15
    request_bytes: Count = 400 * MB
    json_bytes: Count = 2 * MB
    parts: Count = 200
    at_once: Count = 16
    at_once_per_owner: Count = 8  # a browser opens six connections
    min_bytes_per_second: Positive = 5_000.0  # a photo takes minutes at that
    grace_seconds: Positive = 10.0
    staged_bytes: Count = 2_000 * MB
    free_bytes: WholeNumber = 500 * MB
    staged_hours: Positive = 24.0


@config_dataclass
class RateLimits:
    """Requests per second of a client, and how many may come at once. Beyond: 429, and Retry-After says when."""

    reads_per_second: Positive = 200.0
    reads_at_once: Count = 1000  # a gallery's thumbnails
    changes_per_second: Positive = 20.0
    changes_at_once: Count = 100
    failures_per_second: Positive = 0.5  # wrong tokens from one address
    failures_at_once: Count = 10
    connections: Count = 2000  # open at the same time; each takes some 30 kB
    header_seconds: Positive = 20.0  # until a connection's first request is there


@config_dataclass
class PhotoChildLimits:
    """The process that opens photos: bytes of memory that it may have, and seconds for one photo."""

    memory_bytes: Count = 2_000 * MB  # over a gigabyte for the worst WebP (data/photo.py)
    seconds: Positive = 30.0  # the largest photo takes some 5 on a slow core


@config_dataclass
class ServerSettings:
    """Everything that `tenth serve` can be told.

    data: the folder of database, pictures, people. host: the address that is listened at; port: 0 takes a free one.
    token: needed for every request; by default none on a loopback address, and one that is made at start elsewhere.
    users: a file of names and tokens' hashes (security/users.py); then each sees what is their own alone.
    hosts: further names under which browsers may reach the server, such as that of a proxy.
    webhook_hosts: HOST:PORT that may be told when a job is done; nothing else is ever connected to. webhook_secret: signs what
    they are told ("whsec_..." of Standard Webhooks). run_dirs: folders of experiments and trainings that are shown.
    workers: processes that make images. max_queued: jobs that wait.
    retention_days: after which pictures that are not kept are removed; None: never.
    """

    data: FilePath = field(default_factory=data_dir)
    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    token: str = ""
    users: FilePath | None = None
    hosts: tuple[str, ...] = ()
    webhook_hosts: tuple[str, ...] = ()
    webhook_secret: str = ""
    run_dirs: tuple[FilePath, ...] = ()
    workers: Count = 1
    max_queued: Count = 100
    retention_days: Count | None = None
    uploads: UploadLimits = UploadLimits()
    rates: RateLimits = RateLimits()
    photo_child: PhotoChildLimits = PhotoChildLimits()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether it is an address or name of this machine that no other machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
