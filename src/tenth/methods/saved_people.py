"""People saved by name: identity files in a folder of the user's data, for their owner alone to read."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import DataError, IdentityError
from tenth.core.files.claims import list_entries
from tenth.core.files.writing import make_private_folder
from tenth.core.types import Identity
from tenth.core.wording import abbreviate, did_you_mean
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.methods.identity_file import load_identity, save_identity

NAME_PATTERN = re.compile(r"[^\W_][\w. -]{0,99}")  # letters of any script, digits, spaces, dots, dashes


def people_dir() -> Path:
    """`$TENTH_PEOPLE_DIR`, else `tenth/people` under the user's data directory."""
    if value := os.environ.get("TENTH_PEOPLE_DIR"):
        return Path(value)
    if value := os.environ.get("XDG_DATA_HOME"):
        return Path(value) / "tenth/people"
    try:
        return Path.home() / ".local/share/tenth/people"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "tenth-people"


def person_path(name: str) -> Path:
    """The identity file of a name, saved or not. Raises DataError for a name that is none."""
    if not NAME_PATTERN.fullmatch(name) or name.endswith((IDENTITY_SUFFIX, ".", " ")):
        needed = "a name has at most 100 letters, digits, spaces, dots and dashes, and begins with a letter or digit"
        raise DataError(f"the name {name!r:.120}", needed, "Choose another")
    return people_dir() / f"{name}{IDENTITY_SUFFIX}"


def saved_names() -> list[str]:
    """The names of the people who are saved, in order."""
    names = (name.removesuffix(IDENTITY_SUFFIX) for name in list_entries(people_dir()) if name.endswith(IDENTITY_SUFFIX))
    return sorted(name for name in names if NAME_PATTERN.fullmatch(name))


def find_person(name: str) -> Path | None:
    """The identity file of a person saved by this name, or None."""
    return people_dir() / f"{name}{IDENTITY_SUFFIX}" if name in saved_names() else None


def save_person(identity: Identity, name: str) -> Path:
    """Save an identity by name. Returns its file. Raises CheckpointError if another one has it, DataError as `person_path`."""
    path = person_path(name)
    if not path.parent.exists():
        make_private_folder(path.parent)
    save_identity(identity, path, new=True)
    return path


def unknown_person(name: str) -> IdentityError:
    """The error for what is neither a path nor a saved person."""
    names = saved_names()
    known = f"saved: {abbreviate(names)}" if names else "nobody is saved yet"
    needed = f"photos, an identity file, or the name of a saved person is needed ({known})"
    action = did_you_mean(name, names) + "Check the path, or save a person with `tenth identity DIR --name NAME`"
    return IdentityError(f"{name} does not exist", needed, action)


@dataclass(frozen=True)
class SavedPerson:
    """A row of `tenth people`. problem: why the file cannot be used, "" if it can."""

    name: str
    method: str = ""
    model: str = ""
    photos: int = 0
    problem: str = ""


def list_people() -> list[SavedPerson]:
    """Everybody who is saved, in the order of their names."""
    people = []
    for name in saved_names():
        try:
            identity = load_identity(people_dir() / f"{name}{IDENTITY_SUFFIX}")
        except IdentityError as problem:
            people.append(SavedPerson(name, problem=problem.found))
        else:
            model = identity.model.partition("@")[0]
            people.append(SavedPerson(name, identity.method, model, len(identity.photos)))
    return people
