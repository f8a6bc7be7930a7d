"""Jobs as rows of the database."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3

from tenth.core.errors import DataError
from tenth.server.queue.job import Job
from tenth.server.storage.database import change_number

ID = re.compile(r"[0-9a-f]{1,15}-[0-9a-f]{32}")
JOB = """SELECT jobs.*, (SELECT json_group_array(id) FROM (SELECT id FROM pictures WHERE job = jobs.id ORDER BY position))
    AS pictures FROM jobs"""


def new_id(number: int) -> str:
    """An id that nobody can guess, which begins with its order."""
    return f"{number:x}-{secrets.token_hex(16)}"


def order_of(row_id: str) -> int:
    """The order that an id begins with, also where its row is gone. Raises DataError for what is no id."""
    if not ID.fullmatch(row_id):
        raise DataError(f"{row_id!r:.100} is no id", "the id of a job or a picture is needed", "Take one from a list")
    return int(row_id.partition("-")[0], 16)


def from_row(row: sqlite3.Row) -> Job:
    """The job of a row of the query JOB."""
    values = {name: row[name] for name in Job.__dataclass_fields__ if name != "values"}
    tables = {
        "payload": json.loads(row["payload"]),
        "values": json.loads(row["result"]),
        "pictures": tuple(json.loads(row["pictures"])),
        "error": None if row["error"] is None else json.loads(row["error"]),
    }
    return Job(**values | tables)


def find_job(transaction: sqlite3.Connection, condition: str, *values: object) -> Job | None:
    """The last job that was submitted of those that a condition selects."""
    row = transaction.execute(f"{JOB} WHERE {condition} ORDER BY number DESC LIMIT 1", values).fetchone()
    return None if row is None else from_row(row)


def one_job(transaction: sqlite3.Connection, job_id: str) -> Job:
    """The job of an id that is there."""
    return from_row(transaction.execute(f"{JOB} WHERE id = ?", (job_id,)).fetchone())


def update_job(transaction: sqlite3.Connection, job_id: str, **changes: object) -> Job:
    """Change columns of a job, and count the change; the job as it is then."""
    changes["change"] = change_number(transaction)
    columns = ", ".join(f"{name} = ?" for name in changes)
    transaction.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*changes.values(), job_id))
    return one_job(transaction, job_id)
