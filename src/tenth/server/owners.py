"""Where people and uploads of a server's users are. Without users everything is of the owner "", who is this machine's user."""

from __future__ import annotations

import re
from pathlib import Path

from tenth.core.places import data_dir
from tenth.methods.people.folder import PeopleFolder, people_dir

SHA256 = re.compile(r"[0-9a-f]{64}")
NOBODY = "_"  # the folder where there are no users, whose names begin with a letter or digit


def people_of(data: Path, owner: str) -> PeopleFolder:
    """The people of an owner; of "" those of the command line, where the server has its data folder.

    data: the server's. owner: a configured user's name, which is checked where it is configured.
    """
    if owner:
        return PeopleFolder(data / "users" / owner / "people")
    return PeopleFolder(people_dir() if data == data_dir() else data / "people")


def staging_folder(data: Path, owner: str) -> Path:
    """Where an owner's staged photos are."""
    return data / "uploads" / (owner or NOBODY)


def staged_path(data: Path, owner: str, sha256: str) -> Path | None:
    """An owner's own staged photo; None if there is none, or the text is no sha256: it is never joined to a path unchecked."""
    path = staging_folder(data, owner) / sha256 if SHA256.fullmatch(sha256) else None
    return path if path is not None and path.is_file() else None
