"""What a person is given as: photos, an identity file, or the name of a saved person."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.errors import DataError, IdentityError
from tenth.core.wording import pluralize, printable
from tenth.data.photo_sources import IDENTITY_SUFFIX, person_name

if TYPE_CHECKING:
    from tenth.methods.people.folder import PeopleFolder


@dataclass(frozen=True)
class Source:
    """photos: files and folders; or identity: the file of one; or people. notes: what to say of how the words were read.

    name: the folder's or the first file's without its ending, or the saved person's: for an output's default name.
    is_saved: whether it is that of a saved person.
    """

    name: str
    photos: tuple[Path, ...] = ()
    identity: Path | None = None
    notes: tuple[str, ...] = ()
    people: tuple[PlacedSource, ...] = ()
    is_saved: bool = False

    @property
    def saved_names(self) -> tuple[str, ...]:
        """The saved people among those meant."""
        return tuple(each.name for each in (self, *(placed.source for placed in self.people)) if each.is_saved)


@dataclass(frozen=True)
class PlacedSource:
    """What one of several people is given as, and the text of where in the image: sampling/people.py reads it."""

    source: Source
    region: str


def resolve_source(words: Sequence[Path], method: str = "", model: str = "", *, photos: bool = False) -> Source:
    """The source that the words of a command mean. A path that exists wins over a saved person.

    Of a saved person it is the identity of the model, the newest of its versions, or the photos: for a method by name, where no
    identity is of the model, or if `photos` are needed.

    Raises IdentityError for a word that is neither, or a person of whom nothing may be made, DataError for a saved person among
    other words.
    """
    from tenth.methods.people.folder import PeopleFolder

    # Saved people stand alone.
    people = PeopleFolder()
    first, missing, saved = words[0], [word for word in words if not os.path.lexists(word)], set(people.names())
    for word in missing:
        if str(word) in saved and len(words) == 1:
            return replace(_saved_source(people, str(word), method, model, photos=photos), is_saved=True)
        if str(word) in saved:
            needed = "a saved person is given alone, without photos"
            raise DataError(f"{word} is a saved person, among {len(words)} sources", needed, "Leave out the other ones")

    # An identity file, also one that is missing: its reader says so.
    if len(words) == 1 and first.suffix == IDENTITY_SUFFIX and not first.is_dir():
        return Source(first.stem, identity=first)
    if missing and len(words) == 1 and len(first.parts) == 1:
        raise people.unknown(str(first))
    notes = tuple(
        f"{printable(str(word))}: the path is taken, not the person saved by this name" for word in words if str(word) in saved
    )
    return Source(person_name(words), photos=tuple(words), notes=notes)


def _saved_source(people: PeopleFolder, name: str, method: str, model: str, *, photos: bool) -> Source:
    """What a saved person is for a model and a method, which "" leaves open."""
    people.require(name)
    kept, saved = people.photos(name), people.identities(name)
    names = {Path(model).name, Path(os.path.realpath(model)).name, model.replace("/", "--")}
    of_model = [pair for pair in saved if pair[1].model.partition("@")[0].partition("+")[0] in names]
    if not kept:  # an identity of another model, whose reader says so
        return Source(name, identity=(of_model or list(saved))[0][0]) if saved else Source(name, photos=kept)
    if photos or (method and not os.path.isdir(method)) or not of_model:  # noqa: PTH112 - of any text
        note = f"{printable(name)}: by {pluralize(len(kept), 'photo')} kept, as no identity is of {Path(model).name}"
        return Source(name, photos=kept, notes=() if photos or method else (note,))
    methods = sorted({metadata.method for _, metadata in of_model})
    if len(methods) > 1:
        found = f"{name} has {len(of_model)} identities of {Path(model).name} ({', '.join(methods)})"
        raise IdentityError(found, "one is meant", "Say which with --method")
    note = f"{printable(name)}: the newest of {len(of_model)} identities by {methods[0]}, of other weights each"
    newest = max((path for path, _ in of_model), key=lambda path: path.stat().st_mtime_ns)
    return Source(name, identity=newest, notes=(note,) if len(of_model) > 1 else ())
