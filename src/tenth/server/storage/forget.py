"""Forgetting a person: everything of the queue and the gallery that was made for them."""

from __future__ import annotations

from collections.abc import Mapping

from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.retention import remove_job_folders, remove_jobs


def forget_person(database: Database, blobs: Blobs, owner: str, name: str) -> Mapping[str, int]:
    """Remove a person's jobs and pictures; how many jobs, pictures and files those were.

    A job that runs stops at its next step. A file that another person's picture uses stays. Afterwards no byte of the rows is
    in the database or its log. Raises DataError if somebody reads for so long that this cannot be done: run it again then.
    """
    jobs, pictures = remove_jobs(database, blobs, "owner = ? AND person = ?", owner, name)
    files = blobs.remove_unused()
    remove_job_folders(database)
    database.purge()
    return {"jobs": jobs, "pictures": pictures, "files": files}
