"""The gallery: a row and a file for each picture of each job that is done."""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import DataError
from tenth.core.files.reading import read_bytes
from tenth.server.queue.job import Job, NewPicture, to_json
from tenth.server.queue.job_rows import new_id, order_of
from tenth.server.storage.blobs import MAX_BLOB_BYTES, Blobs
from tenth.server.storage.database import Database, change_number, insert

PNG_START, PNG_SIZE = b"\x89PNG\r\n\x1a\n", struct.Struct(">16xII")  # signature; width and height in its first chunk
MAX_PAGE = 500


@dataclass(frozen=True)
class Picture:
    """A row of the gallery. id: begins with its order. sha256, thumbnail: of its files. created: seconds since 1970."""

    id: str
    job: str
    owner: str
    person: str
    sha256: str
    thumbnail: str | None
    seed: int
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    created: float
    width: int
    height: int
    kept: bool


class Pictures:
    """All pictures of a data folder. An owner sees their own alone: to others they do not exist."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self.database, self.blobs = database, blobs

    def add(self, transaction: sqlite3.Connection, job: Job, pictures: Sequence[NewPicture], contents: Sequence[bytes]) -> None:
        """Register a job's pictures, in the transaction in which it is done. contents: of their files."""
        for position, (picture, content) in enumerate(zip(pictures, contents, strict=True)):
            number = change_number(transaction)
            picture_id = new_id(number)
            sha256 = self.blobs.use(transaction, content, f"picture:{picture_id}")
            width, height = png_size(content)
            insert(
                transaction,
                "pictures",
                number=number,
                id=picture_id,
                job=job.id,
                position=position,
                owner=job.owner,
                person=job.person,
                sha256=sha256,
                seed=picture.seed,
                settings=to_json(picture.settings),
                figures=to_json(picture.figures),
                created=time.time(),
                width=width,
                height=height,
            )

    def get(self, picture_id: str, owner: str) -> Picture | None:
        """A picture, or None if the owner has none of this id."""
        row = self.database.row("SELECT * FROM pictures WHERE id = ? AND owner = ?", (picture_id, owner))
        return None if row is None else _from_row(row)

    def path(self, picture: Picture) -> Path:
        """The PNG."""
        return self.blobs.path(picture.sha256)

    def page(self, owner: str, person: str | None = None, before: str | None = None, limit: int = 50) -> list[Picture]:
        """The newest pictures, newest first. before: the id of the last picture of the page before."""
        query, values = page_query(owner, person, before, limit)
        return [_from_row(row) for row in self.database.rows(query, values)]

    def count(self, owner: str, person: str | None = None) -> int:
        """How many pictures there are."""
        where, values = ("", (owner,)) if person is None else (" AND person = ?", (owner, person))
        row = self.database.row(f"SELECT count(*) FROM pictures WHERE owner = ?{where}", values)
        return 0 if row is None else int(row[0])

    def keep(self, picture_id: str, owner: str, kept: bool = True) -> bool:
        """Keep a picture beyond the days after which others are removed, or not. False if there is none."""
        with self.database.transaction() as transaction:
            query = "UPDATE pictures SET kept = ? WHERE id = ? AND owner = ?"
            return transaction.execute(query, (int(kept), picture_id, owner)).rowcount > 0

    def keep_thumbnail(self, picture_id: str, owner: str, content: bytes) -> None:
        """Keep a small version of a picture, which goes with it. Nothing is kept if there is no such picture."""
        self.blobs.put(content)
        with self.database.transaction() as transaction:
            query = "SELECT 1 FROM pictures WHERE id = ? AND owner = ?"
            if transaction.execute(query, (picture_id, owner)).fetchone() is not None:
                sha256 = self.blobs.use(transaction, content, f"picture:{picture_id}")
                transaction.execute("UPDATE pictures SET thumbnail = ? WHERE id = ?", (sha256, picture_id))

    def delete(self, picture_id: str, owner: str) -> bool:
        """Remove a picture, and its file if nothing else uses it. False if there is none."""
        if self.get(picture_id, owner) is None:
            return False
        return self.delete_all([picture_id])[0] > 0

    def delete_all(self, picture_ids: Iterable[str]) -> tuple[int, int]:
        """Remove pictures of any owner: how many, and how many files. Their jobs count as changed."""
        removed = 0
        with self.database.transaction() as transaction:
            for picture_id in picture_ids:
                row = transaction.execute("DELETE FROM pictures WHERE id = ? RETURNING job", (picture_id,)).fetchone()
                if row is not None:
                    removed += 1
                    self.blobs.release(transaction, f"picture:{picture_id}")
                    transaction.execute("UPDATE jobs SET change = ? WHERE id = ?", (change_number(transaction), row["job"]))
        return removed, self.blobs.remove_unused()


def page_query(owner: str, person: str | None, before: str | None, limit: int) -> tuple[str, list[object]]:
    """The query of a page and its values: it reads as many rows as it gives, through an index."""
    terms: dict[str, object] = {"owner = ?": owner}
    if person is not None:
        terms["person = ?"] = person
    if before is not None:
        terms["number < ?"] = order_of(before)
    query = f"SELECT * FROM pictures WHERE {' AND '.join(terms)} ORDER BY number DESC LIMIT ?"
    return query, [*terms.values(), max(0, min(limit, MAX_PAGE))]


def read_picture(path: Path) -> bytes:
    """The content of a picture that a job made. Raises DataError if it is no PNG, OSError or UnreadableError."""
    content = read_bytes(path, MAX_BLOB_BYTES)
    png_size(content)
    return content


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG, in pixels. Raises DataError if it is none."""
    if not content.startswith(PNG_START) or len(content) < PNG_SIZE.size:
        raise DataError("a job's picture is no PNG", "the gallery holds PNG files", "This is a defect: report it")
    width, height = PNG_SIZE.unpack_from(content)
    return width, height


def _from_row(row: sqlite3.Row) -> Picture:
    values = {name: row[name] for name in Picture.__dataclass_fields__}
    tables = {name: json.loads(row[name]) for name in ("settings", "figures")}
    return Picture(**values | tables | {"kept": bool(row["kept"])})
