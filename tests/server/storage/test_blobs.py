"""Files by their content: there as long as something uses them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.server.storage.blobs import ORPHAN_SECONDS, Blobs
from tenth.server.storage.database import Database


def files(blobs: Blobs) -> set[str]:
    return {path.name for path in blobs.folder.rglob("*") if path.is_file()}


def test_a_file_is_its_content_and_for_its_owner_alone(blobs: Blobs) -> None:
    sha256 = blobs.put(b"content")
    assert sha256 == hashlib.sha256(b"content").hexdigest()
    assert blobs.put(b"content") == sha256
    assert blobs.read(sha256) == b"content"
    path = blobs.path(sha256)
    assert path == blobs.folder / sha256[:2] / sha256
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, blobs.folder)] == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("name", ["", "../server.db", "ab/../../server.db", "A" * 64, "a" * 63, "a" * 64 + "\n", "/etc/passwd"])
def test_what_is_no_sha256_is_no_path(blobs: Blobs, name: str) -> None:
    with pytest.raises(DataError, match="a sha256 in hexadecimal is needed"):
        blobs.path(name)


def test_a_file_goes_with_its_last_use(blobs: Blobs, database: Database) -> None:
    with database.transaction() as transaction:
        one = blobs.use(transaction, b"one", "picture:a")
        assert blobs.share(transaction, one, "picture:b")
        assert not blobs.share(transaction, "0" * 64, "picture:b")
    assert blobs.holds("picture:b", one)
    assert blobs.held("picture:b") == (one,)
    for holder, left in (("picture:a", {one}), ("picture:b", set())):
        with database.transaction() as transaction:
            blobs.release(transaction, holder)
        assert blobs.remove_unused() == len({one} - left)
        assert files(blobs) == left
    assert not blobs.holds("picture:b", one)


def test_a_use_is_void_after_its_time(blobs: Blobs, database: Database) -> None:
    with database.transaction() as transaction:
        old = blobs.use(transaction, b"old", "staged:", until=time.time() - 1)
        new = blobs.use(transaction, b"new", "staged:", until=time.time() + 100)
        both = blobs.use(transaction, b"both", "staged:", until=time.time() - 1)
        blobs.share(transaction, both, "job:a")
    assert [blobs.holds("staged:", each) for each in (old, new, both)] == [False, True, False]
    assert blobs.remove_expired() == 1
    assert files(blobs) == {new, both}
    assert blobs.held("staged:") == (new,)


def test_a_file_that_was_released_by_a_process_that_was_killed_then_goes_next_time(blobs: Blobs, database: Database) -> None:
    for number in range(250):  # more than go at once
        with database.transaction() as transaction:
            blobs.use(transaction, b"%d" % number, f"picture:{number}")
            blobs.release(transaction, f"picture:{number}")
    assert len(files(blobs)) == 250
    with database.transaction() as transaction:
        used = blobs.use(transaction, b"7", "picture:new")
    assert blobs.remove_unused() == 249
    assert files(blobs) == {used}


def test_what_a_killed_process_left_goes_after_a_while(blobs: Blobs, database: Database) -> None:
    with database.transaction() as transaction:
        used = blobs.use(transaction, b"used", "picture:a")
    fresh, left = blobs.put(b"fresh"), blobs.put(b"left")
    before = time.time() - ORPHAN_SECONDS - 1
    for sha256 in (left, used):
        os.utime(blobs.path(sha256), (before, before))
    temporary: Path = blobs.folder / left[:2] / f".{left}.0123456789abcdef.part"
    temporary.write_bytes(b"half")
    assert blobs.remove_orphans() == 1
    assert files(blobs) == {used, fresh}
