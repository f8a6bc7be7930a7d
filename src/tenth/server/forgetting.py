"""Forget a person of a server: jobs, pictures and uploads, then all that `methods/people/forget.py` removes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.forget import forget as forget_saved
from tenth.methods.people.forget import photo_digests
from tenth.server.owners import staged_path
from tenth.server.security.photo_child import THUMBNAIL_SUFFIX
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.forget import forget_person
from tenth.server.storage.retention import remove_jobs

# One of some photos is among a payload's, or its images start from it.
HAS_PHOTO = """SELECT 1 FROM json_each(?) WHERE value IN (SELECT value FROM json_each(payload, '$.photos')
    UNION SELECT json_extract(payload, '$.request.image') UNION SELECT json_extract(payload, '$.request.mask'))"""


def forget(
    database: Database,
    people: PeopleFolder,
    owner: str,
    name: str,
    output_folders: Iterable[Path] = (),
    *,
    decode: bool = False,
) -> dict[str, int]:
    """Remove an owner's person; how much of what. Jobs with the person's photos that did not name the person go, too.

    people: the owner's. output_folders, decode: as there. Raises as there and as `forget_person`: call it again then.
    """
    digests = sorted(photo_digests(people.path(name)))
    jobs = f"owner = ? AND (person = ? OR EXISTS ({HAS_PHOTO}))", owner, name, json.dumps(digests)
    blobs = Blobs(database)

    # The jobs first, to the last trace: who is killed in between, or has no room on the disk, finds the person still there.
    num_jobs, num_pictures = remove_jobs(database, blobs, *jobs)
    forget_person(database, blobs, owner, name)
    for digest in digests:
        if (path := staged_path(database.folder, owner, digest)) is not None:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}{THUMBNAIL_SUFFIX}").unlink(missing_ok=True)
    removed = asdict(forget_saved(people, name, output_folders, decode=decode))

    # Then those that were submitted meanwhile.
    more_jobs, more_pictures = remove_jobs(database, blobs, *jobs)
    if more_jobs:
        forget_person(database, blobs, owner, name)
    return removed | {"jobs": num_jobs + more_jobs, "pictures": num_pictures + more_pictures}
