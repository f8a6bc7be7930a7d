"""What a person is given as: photos, an identity file, or the name of a saved person."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.wording import printable
from tenth.data.photo_sources import IDENTITY_SUFFIX, person_name


@dataclass(frozen=True)
class Source:
    """photos: files and folders; or identity: the file of one; or people. notes: what to say of how the words were read.

    name: the folder's or the first file's without its ending, or the saved person's: for an output's default name.
    """

    name: str
    photos: tuple[Path, ...] = ()
    identity: Path | None = None
    notes: tuple[str, ...] = ()
    people: tuple[PlacedSource, ...] = ()


@dataclass(frozen=True)
class PlacedSource:
    """What one of several people is given as, and the text of where in the image: sampling/people.py reads it."""

    source: Source
    region: str


def resolve_source(words: Sequence[Path]) -> Source:
    """The source that the words of a command mean. A path that exists wins over a saved person.

    Raises IdentityError for a word that is neither, DataError for a saved person among other words.
    """
    from tenth.methods.saved_people import find_person, unknown_person

    # Saved people stand alone.
    first, missing = words[0], [word for word in words if not os.path.lexists(word)]
    for word in missing:
        saved = find_person(str(word))
        if saved and len(words) == 1:
            return Source(str(word), identity=saved)
        if saved:
            needed = "a saved person is given alone, without photos"
            raise DataError(f"{word} is a saved person, among {len(words)} sources", needed, "Leave out the other ones")

    # An identity file, also one that is missing: its reader says so.
    if len(words) == 1 and first.suffix == IDENTITY_SUFFIX and not first.is_dir():
        return Source(first.stem, identity=first)
    if missing and len(words) == 1 and len(first.parts) == 1:
        raise unknown_person(str(first))
    notes = tuple(
        f"{printable(str(word))}: the path is taken, not the person saved by this name"
        for word in words
        if find_person(str(word))
    )
    return Source(person_name(words), photos=tuple(words), notes=notes)
