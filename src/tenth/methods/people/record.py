"""person.json: who consented to what, since when and until when, and which photos the person's folder has."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from tenth.core.config import config_dataclass, from_table, needs, require, to_table
from tenth.core.errors import IdentityError, RecipeError
from tenth.core.files.reading import UnreadableError, read_json, reason
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_bytes
from tenth.core.wording import printable

PERSON_FILE = "person.json"
MAX_GIVER_CHARS = 200
Basis = Literal["self", "permission", "licensed"]
BASES: tuple[Basis, ...] = ("self", "permission", "licensed")
Giver = Annotated[
    str,
    needs(
        f"one line of at most {MAX_GIVER_CHARS} characters",
        lambda text: len(text) <= MAX_GIVER_CHARS and text == printable(text),
    ),
]


def today() -> dt.date:
    """The date on this machine's clock."""
    return dt.datetime.now().astimezone().date()


@config_dataclass
class Consent:
    """By what right images of a person are made.

    basis: self: the photos are of whoever saved them; permission: the person, or who may speak for them, agreed; licensed: a
    data set's licence allows it. given_by: who agreed, or which licence; needed but for self. date: when. until: the last day
    on which it holds; None: until the person is forgotten. Raises RecipeError for what is no consent.
    """

    basis: Basis
    given_by: Giver = ""
    date: dt.date = field(default_factory=today)
    until: dt.date | None = None

    def __post_init__(self) -> None:
        if self.basis != "self":
            require(bool(self.given_by.strip()), "given_by", self.given_by, f"who gave the consent ({self.basis})")
        if self.until is not None:
            require(self.until >= self.date, "until", str(self.until), f"a day not before that of the consent, {self.date}")

    @property
    def is_current(self) -> bool:
        """Whether it holds today."""
        return self.until is None or today() <= self.until


@config_dataclass
class PersonRecord:
    """The contents of person.json. photos: sha256 of each, in the order in which they were given. created: UTC.

    forgetting: whether `forget` has begun: then nothing of the person may be used any more.
    """

    consent: Consent
    photos: tuple[str, ...] = ()
    created: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))
    forgetting: bool = False
    format: Literal[1] = 1


def write_person(record: PersonRecord, folder: Path) -> None:
    """Write a folder's person.json atomically, for its owner alone. Raises DataError if the disk is full or refuses."""
    text = json.dumps(to_table(record), indent=1, sort_keys=True) + "\n"
    write_bytes(folder / PERSON_FILE, text.encode(), PRIVATE_FILE_MODE)


def read_person_record(folder: Path) -> PersonRecord:
    """Raises IdentityError if it is missing or damaged."""
    path = folder / PERSON_FILE
    try:
        table = read_json(path)
        if not isinstance(table, dict):
            raise UnreadableError("is no table")
        return from_table(PersonRecord, table, str(path))
    except (OSError, UnreadableError) as problem:
        found = f"{path} {reason(problem)}"
    except RecipeError as problem:
        found = problem.found
    raise IdentityError(found, "the record of a saved person is needed", f"Forget the person with `tenth forget {folder.name}`")
