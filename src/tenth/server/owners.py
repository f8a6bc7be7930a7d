"""Where the people of a server's users are. Without users everything is of the owner "", who is this machine's user."""

from __future__ import annotations

from pathlib import Path

from tenth.core.places import data_dir
from tenth.methods.people.folder import PeopleFolder, people_dir


def people_of(data: Path, owner: str) -> PeopleFolder:
    """The people of an owner; of "" those of the command line, where the server has its data folder.

    data: the server's. owner: a configured user's name, which is checked where it is configured.
    """
    if owner:
        return PeopleFolder(data / "users" / owner / "people")
    return PeopleFolder(people_dir() if data == data_dir() else data / "people")
