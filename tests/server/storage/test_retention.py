"""What is removed with time."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage import retention
from tenth.server.storage.blobs import ORPHAN_SECONDS, Blobs, job_holder
from tenth.server.storage.database import GENERATION_FILE, Database
from tenth.server.storage.pictures import Pictures
from tenth.server.storage.retention import DAY_SECONDS, clean
from toy_jobs import done_job, result, submit


def age(database: Database, job: str, days: float) -> None:
    with database.transaction() as transaction:
        transaction.execute("UPDATE jobs SET finished = finished - ? WHERE id = ?", (days * DAY_SECONDS, job))
        transaction.execute("UPDATE pictures SET created = created - ? WHERE job = ?", (days * DAY_SECONDS, job))


def test_old_pictures_go_unless_they_are_kept(
    queue: JobQueue, leases: Leases, pictures: Pictures, blobs: Blobs, database: Database, tmp_path: Path
) -> None:
    old, kept, young = (done_job(queue, leases, tmp_path, seed, seed + 1) for seed in (0, 10, 20))
    failed = submit(queue, 30)
    queue.cancel(failed.id, "")
    waiting = submit(queue, 40)
    for job in (old, kept, failed):
        age(database, job.id, 8)
    pictures.keep(kept.pictures[1], "")
    assert clean(database, None) == {"pictures": 0, "jobs": 0, "files": 0, "folders": 0}
    assert clean(database, 7) == {"pictures": 3, "jobs": 2, "files": 3, "folders": 0}
    assert [picture.id for picture in pictures.page("")] == [*young.pictures[::-1], kept.pictures[1]]
    assert [job.id for job in queue.list("")] == [waiting.id, young.id, kept.id]
    assert len([path for path in blobs.folder.rglob("*") if path.is_file()]) == 3
    assert clean(database, 7) == {"pictures": 0, "jobs": 0, "files": 0, "folders": 0}


def test_uploads_of_a_job_go_when_it_is_done_and_a_day_after_it_ended_otherwise(
    queue: JobQueue, leases: Leases, blobs: Blobs, database: Database, tmp_path: Path
) -> None:
    jobs = [submit(queue, seed) for seed in range(4)]
    uploads = {}
    for job in jobs:
        with database.transaction() as transaction:
            uploads[job.id] = blobs.path(blobs.use(transaction, job.id.encode(), job_holder(job.id)))
    done, failed, cancelled, waiting = (uploads[job.id] for job in jobs)
    for _ in range(2):
        claimed = leases.claim()
        assert claimed is not None
        if claimed.id == jobs[0].id:
            leases.finish(claimed, result(tmp_path, 0))
        else:
            leases.fail(claimed, {"found": "a"}, retry=False)
    queue.cancel(jobs[2].id, "")
    assert [done.exists(), failed.exists(), cancelled.exists()] == [False, True, True]

    # Kept for a day: until then it may be tried again. Of one that was done before it was held nothing stays.
    with database.transaction() as transaction:
        blobs.use(transaction, b"held too late", job_holder(jobs[0].id))
    assert clean(database)["files"] == 1
    for job in jobs[1:3]:
        age(database, job.id, 0.9)
    assert clean(database)["files"] == 0
    queue.retry(jobs[1].id, "")
    age(database, jobs[2].id, 0.2)
    assert clean(database)["files"] == 1
    assert [failed.exists(), cancelled.exists(), waiting.exists()] == [True, False, True]


def test_more_than_are_removed_at_once(
    queue: JobQueue, leases: Leases, pictures: Pictures, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 20)
    job = done_job(queue, leases, tmp_path, *range(45))
    age(database, job.id, 2)
    assert clean(database, 1) == {"pictures": 45, "jobs": 1, "files": 45, "folders": 0}
    assert pictures.count("") == 0


def test_folders_of_jobs_that_ended_go_and_those_of_others_stay(queue: JobQueue, leases: Leases, database: Database) -> None:
    running, waiting, cancelled = (submit(queue, seed) for seed in range(3))
    leases.claim()
    queue.cancel(cancelled.id, "")
    for name in (running.id, waiting.id, cancelled.id, "0-unknown"):
        (database.job_folder(name) / "work").mkdir(parents=True)
    assert clean(database)["folders"] == 2
    assert {path.name for path in (database.folder / "jobs").iterdir()} == {running.id, waiting.id}


def test_files_that_nobody_uses_any_more_go(blobs: Blobs, database: Database) -> None:
    with database.transaction() as transaction:
        blobs.use(transaction, b"staged", "staged:", until=time.time() - 1)
    left = blobs.path(blobs.put(b"left"))
    os.utime(left, (0, 0))
    assert clean(database)["files"] == 2


def test_files_that_an_older_database_does_not_know_stay(
    queue: JobQueue, leases: Leases, blobs: Blobs, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean(database)
    database.purge()
    database.close()
    shutil.copy(database.path, tmp_path / "copy.db")
    clean(database)

    # Pictures come, a day passes, and somebody puts the older database back.
    done_job(queue, leases, tmp_path, 1, 2)
    database.purge()
    database.close()
    files = [path for path in blobs.folder.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, (time.time() - DAY_SECONDS,) * 2)
    assert ORPHAN_SECONDS < DAY_SECONDS
    for path in database.folder.glob("server.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", database.path)
    capsys.readouterr()
    older = Database(database.folder)
    for _ in range(2):
        assert clean(older)["files"] == 0
        assert "is older than the files beside it; pictures that it does not know stay" in capsys.readouterr().err
    assert all(path.exists() for path in files)

    # Who does not want them says so.
    (database.folder / GENERATION_FILE).unlink()
    assert clean(older)["files"] == len(files) == 2
    assert capsys.readouterr().err == ""


def test_a_clean_up_that_was_killed_in_between_is_no_older_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database.next_generation()
    with monkeypatch.context() as patch:
        patch.setattr("tenth.server.storage.database.write_bytes", lambda *_: None)
        assert database.next_generation()
    assert database.next_generation()
