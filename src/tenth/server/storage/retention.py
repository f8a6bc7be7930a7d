"""What is removed with time: old pictures and jobs, files that nothing uses, folders of jobs that are done."""

from __future__ import annotations

import shutil
import sys
import time

from tenth.core.files.claims import list_entries
from tenth.server.storage.blobs import Blobs, job_holder
from tenth.server.storage.database import GENERATION_FILE, Database
from tenth.server.storage.pictures import Pictures

BATCH = 200  # rows that are removed while everybody else waits
DAY_SECONDS = 86_400.0
OLDER_DATABASE = (
    "{} is older than the files beside it; pictures that it does not know stay, and forgetting a person does not find them. "
    "Put the newer one back, or remove {}: then they go an hour later."
)
UPLOAD_SECONDS = DAY_SECONDS  # for which a job that failed or was cancelled keeps its uploads: it may be tried again
ENDED = "status IN ('done', 'failed', 'cancelled')"


def clean(database: Database, retention_days: float | None = None) -> dict[str, int]:
    """Remove what is not needed; how many pictures, jobs, files and folders of jobs those were.

    retention_days: pictures that are older go, unless they are kept, and jobs that ended before and have no picture left.
    """
    blobs, removed = Blobs(database), dict.fromkeys(("pictures", "jobs", "files", "folders"), 0)
    if retention_days is not None:
        before = time.time() - retention_days * DAY_SECONDS
        removed["pictures"], removed["files"] = _remove_old_pictures(Pictures(database, blobs), before)
        without_picture = "NOT EXISTS (SELECT 1 FROM pictures WHERE job = jobs.id)"
        while more := remove_jobs(database, blobs, f"{ENDED} AND finished < ? AND {without_picture} LIMIT ?", before, BATCH)[0]:
            removed["jobs"] += more
    _release_uploads(blobs)
    removed["files"] += blobs.remove_expired()
    if database.next_generation():
        removed["files"] += blobs.remove_orphans()
    else:
        print(OLDER_DATABASE.format(database.path, database.folder / GENERATION_FILE), file=sys.stderr)
    removed["folders"] = remove_job_folders(database)
    return removed


def remove_jobs(database: Database, blobs: Blobs, condition: str, *values: object) -> tuple[int, int]:
    """Remove jobs with their pictures; how many jobs and pictures. Call `blobs.remove_unused` and `remove_job_folders` then."""
    with database.transaction() as transaction:
        jobs = [row[0] for row in transaction.execute(f"SELECT id FROM jobs WHERE {condition}", values).fetchall()]
        pictures: list[str] = []
        for job in jobs:
            rows = transaction.execute("DELETE FROM pictures WHERE job = ? RETURNING id", (job,)).fetchall()
            pictures += [row[0] for row in rows]
            transaction.execute("DELETE FROM jobs WHERE id = ?", (job,))
        for holder in (*(f"picture:{picture}" for picture in pictures), *map(job_holder, jobs)):
            blobs.release(transaction, holder)
    return len(jobs), len(pictures)


def _release_uploads(blobs: Blobs) -> None:
    """Release the photos that were uploaded for jobs which need them no more. Call `blobs.remove_unused` then."""
    unneeded = "status = 'done' OR (status IN ('failed', 'cancelled') AND finished < ?)"
    query = f"SELECT holder FROM blob_uses WHERE holder IN (SELECT 'job:' || id FROM jobs WHERE {unneeded}) GROUP BY holder"
    with blobs.database.transaction() as transaction:  # while it runs no job is queued again
        for row in transaction.execute(query, (time.time() - UPLOAD_SECONDS,)).fetchall():
            blobs.release(transaction, row["holder"])


def _remove_old_pictures(pictures: Pictures, before: float) -> tuple[int, int]:
    removed, files = 0, 0
    query = "SELECT id FROM pictures WHERE created < ? AND kept = 0 ORDER BY created LIMIT ?"
    while rows := pictures.database.rows(query, (before, BATCH)):
        more, more_files = pictures.delete_all([row[0] for row in rows])
        removed, files = removed + more, files + more_files
    return removed, files


def remove_job_folders(database: Database) -> int:
    """Remove the folders of jobs that are gone or ended; how many: a killed worker leaves its own."""
    removed = 0
    for name in sorted(list_entries(database.folder / "jobs")):
        with database.transaction() as transaction:  # while it runs no job is queued again
            active = transaction.execute(f"SELECT 1 FROM jobs WHERE id = ? AND NOT {ENDED}", (name,)).fetchone()
            if active is None:
                shutil.rmtree(database.job_folder(name), ignore_errors=True)
                removed += 1
    return removed
