from __future__ import annotations

from pathlib import Path

import pytest

from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "data")


@pytest.fixture
def blobs(database: Database) -> Blobs:
    return Blobs(database)


@pytest.fixture
def pictures(database: Database, blobs: Blobs) -> Pictures:
    return Pictures(database, blobs)


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, "worker")
