"""People saved by name, a folder each, for their owner alone to read.

NAME/person.json, NAME/photos/SHA256, NAME/identities/*.safetensors. The name stands in the folder's name alone. Needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.errors import CheckpointError, DataError, IdentityError
from tenth.core.files.claims import is_real_folder, list_entries
from tenth.core.files.reading import UnreadableError, reason, sha256_of
from tenth.core.files.writing import (
    PRIVATE_FILE_MODE,
    PRIVATE_FOLDER_MODE,
    atomic_folder,
    copy_file,
    make_private_folder,
    write_bytes,
)
from tenth.core.places import data_dir
from tenth.core.wording import abbreviate, did_you_mean, pluralize
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.methods.identity_file import IdentityMetadata, read_identity_metadata, save_identity
from tenth.methods.people.record import Consent, PersonRecord, read_person_record, write_person

if TYPE_CHECKING:
    from tenth.core.types import Identity

NAME_PATTERN = re.compile(r"[^\W_][\w. -]*")  # letters of any script, digits, spaces, dots, dashes
MAX_NAME_CHARS, MAX_NAME_BYTES = (
    100,
    200,
)  # a folder's name has at most 255 on most file systems, of which a temporary one needs some
PHOTOS_FOLDER, IDENTITIES_FOLDER = "photos", "identities"


def people_dir() -> Path:
    """`$TENTH_PEOPLE_DIR`, else `people` in tenth's data folder."""
    value = os.environ.get("TENTH_PEOPLE_DIR")
    return Path(value) if value else data_dir() / "people"


def check_name(name: str) -> str:
    """The name. Raises DataError for one that nobody can have."""
    if not _is_name(name) or name.endswith((IDENTITY_SUFFIX, ".", " ")):
        needed = "a name has at most 100 letters, digits, spaces, dots and dashes, and begins with a letter or digit"
        raise DataError(
            f"the name {name!r:.120}", f"{needed}; in UTF-8 it has at most {MAX_NAME_BYTES} bytes", "Choose another"
        )
    return name


def _is_name(name: str) -> bool:
    """Whether a name has the characters of one. Vowel signs and accents, which many scripts write apart, go with a letter."""
    letters = "".join(character for character in name if not unicodedata.category(character).startswith("M"))
    short = len(name) <= MAX_NAME_CHARS and len(name.encode(errors="replace")) <= MAX_NAME_BYTES
    return short and letters[:1] == name[:1] and NAME_PATTERN.fullmatch(letters) is not None


@dataclass(frozen=True)
class SavedPerson:
    """A saved person. methods: of the saved identities, models: theirs. problem: why nothing can be made of them, or ""."""

    name: str
    consent: Consent | None = None
    created: datetime | None = None
    num_photos: int = 0
    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    problem: str = ""


class PeopleFolder:
    """The people of one user. directory: by default this user's own; need not exist."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = people_dir() if directory is None else Path(directory)

    def path(self, name: str) -> Path:
        """The folder of a name, saved or not. Raises DataError for a name that nobody can have."""
        return self.directory / check_name(name)

    def names(self) -> list[str]:
        """Who is saved, in order."""
        names = (name for name in list_entries(self.directory) if _is_name(name))
        return sorted(name for name in names if is_real_folder(self.directory / name))

    def list(self) -> tuple[SavedPerson, ...]:
        """Everybody who is saved, in the order of the names."""
        return tuple(person for name in self.names() if (person := self.find(name)) is not None)

    def find(self, name: str) -> SavedPerson | None:
        """A person, or None if nobody is saved by this name."""
        if name not in self.names():
            return None
        try:
            record = read_person_record(self.directory / name)
            metadata = [each for _, each in self._identities(name)]
        except IdentityError as error:
            return SavedPerson(name, problem=error.found)
        problem = "" if record.consent.is_current else f"the consent ended on {record.consent.until}"
        if record.forgetting:
            problem = "forgetting was begun and did not end"
        methods, models = ({getattr(each, key) for each in metadata} for key in ("method", "model"))
        return SavedPerson(
            name, record.consent, record.created, len(record.photos), tuple(sorted(methods)), tuple(sorted(models)), problem
        )

    def require(self, name: str) -> SavedPerson:
        """A person of whom images may be made. Raises IdentityError for another, such as one whose consent has ended."""
        person = self.find(name)
        if person is None:
            raise self.unknown(name)
        if person.problem and person.consent is not None and not person.consent.is_current:
            action = f"Renew it with `tenth identity DIR --name '{name}' --consent ...`, or `tenth forget '{name}'`"
            raise IdentityError(f"{name}: {person.problem}", "a consent that holds today is needed", action)
        if person.problem:
            action = f"`tenth forget '{name}'` removes what is left"
            raise IdentityError(f"{name}: {person.problem}", "a person who is saved whole is needed", action)
        return person

    def unknown(self, name: str) -> IdentityError:
        """The error for what is neither a path nor a saved person."""
        names = self.names()
        known = f"saved: {abbreviate(names)}" if names else "nobody is saved yet"
        needed = f"photos, an identity file, or the name of a saved person is needed ({known})"
        action = did_you_mean(name, names) + "Check the path, or save a person with `tenth identity DIR --name NAME`"
        return IdentityError(f"{name} does not exist", needed, action)

    def save(
        self,
        name: str,
        consent: Consent | None,
        photos: Sequence[bytes | Path] = (),
        identity: Identity | None = None,
    ) -> SavedPerson:
        """Save a person, or add an identity to one with these very photos; then a consent that is given replaces the old one.

        photos: contents or files, kept as they are. consent: None: that of a person who is saved. Written whole or not at all.
        Raises DataError without a consent or for one that has ended, CheckpointError for other photos or another identity.
        """
        folder, digests = self.path(name), [photo_digest(photo) for photo in photos]
        self.check_savable(name, consent, digests)
        if folder.exists():
            record = read_person_record(folder)
            if consent is not None and replace(consent, date=record.consent.date) != record.consent:
                write_person(replace(record, consent=consent), folder)
        elif consent is not None:
            make_private_folder(self.directory)
            with atomic_folder(folder, PRIVATE_FOLDER_MODE, no_overwrite=True) as new:
                for part in (PHOTOS_FOLDER, IDENTITIES_FOLDER):
                    make_private_folder(new / part)
                for photo, digest in zip(photos, digests, strict=True):
                    _keep_photo(photo, new / PHOTOS_FOLDER / digest)
                write_person(PersonRecord(consent, tuple(dict.fromkeys(digests))), new)
                if identity is not None:
                    save_identity(identity, new / IDENTITIES_FOLDER / identity_file_name(identity), with_photos=True)
        if identity is not None:
            self.add_identity(name, identity)
        return self.require(name)

    def check_savable(self, name: str, consent: Consent | None, digests: Sequence[str] | None = None) -> None:
        """Raises as `save`, before anything is computed. digests: the photos' sha256; None: not known yet."""
        if consent is not None and not consent.is_current:
            found = f"a consent until {consent.until}"
            raise DataError(found, "one that holds today is needed", "Give a later day, or none")
        folder = self.path(name)
        if not folder.exists():
            if consent is None:
                needed = "whose faces may be kept by name is recorded: self, permission or licensed is needed"
                raise DataError(f"{name} without a consent", needed, "Add --consent, as `tenth identity --help` explains")
            return
        record = read_person_record(folder)
        if consent is None or record.forgetting:
            self.require(name)
        if digests is not None and set(digests) != set(record.photos):
            found = f"{name} is saved with {pluralize(len(record.photos), 'photo')}, and not with the same ones"
            needed = "a saved person is never replaced"
            raise CheckpointError(found, needed, f"Choose another name, or `tenth forget '{name}'` first")

    def photos(self, name: str) -> tuple[Path, ...]:
        """The person's photos, in the order in which they were given. Raises IdentityError for a name that nobody has."""
        if name not in self.names():
            raise self.unknown(name)
        folder = self.directory / name
        return tuple(folder / PHOTOS_FOLDER / digest for digest in read_person_record(folder).photos)

    def add_identity(self, name: str, identity: Identity) -> Path:
        """Keep an identity of a saved person. Returns its file. Raises CheckpointError if another of its method is there."""
        self.require(name)
        path = self.directory / name / IDENTITIES_FOLDER / identity_file_name(identity)
        try:
            save_identity(identity, path, new=True, with_photos=True)
        except CheckpointError as problem:
            found = f"{name} has another identity of {identity.method} and {identity.model}"
            action = "Write this one to a file (`tenth identity ... -o FILE`), or save it under another name"
            raise CheckpointError(found, "a saved identity is never replaced", action) from problem
        return path

    def identities(self, name: str, method: str = "", model: str = "") -> tuple[tuple[Path, IdentityMetadata], ...]:
        """The saved identities of a method and a model; "": of any. model: with its digest or without."""
        if name not in self.names():
            return ()
        return tuple(
            (path, each)
            for path, each in self._identities(name)
            if method in ("", each.method) and model in ("", each.model, each.model.partition("@")[0])
        )

    def identity(self, name: str, method: str = "", model: str = "") -> Path | None:
        """The file of the first of `identities`, None if there is none."""
        return next((path for path, _ in self.identities(name, method, model)), None)

    def _identities(self, name: str) -> tuple[tuple[Path, IdentityMetadata], ...]:
        folder = self.directory / name / IDENTITIES_FOLDER
        paths = [folder / file for file in sorted(list_entries(folder)) if file.endswith(IDENTITY_SUFFIX)]
        return tuple((path, read_identity_metadata(path)) for path in paths)


def photo_digest(photo: bytes | Path) -> str:
    """sha256 of a photo's file, hexadecimal. Raises DataError if it cannot be read."""
    if isinstance(photo, bytes):
        return hashlib.sha256(photo).hexdigest()
    try:
        return sha256_of(photo)
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{photo} {reason(problem)}", "a photo is needed", "Check the path") from problem


def identity_file_name(identity: Identity) -> str:
    """A name that tells methods and models apart."""
    key = hashlib.sha256(repr((identity.method, identity.model, identity.adapter)).encode()).hexdigest()[:8]
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(identity.method).name}-{identity.model.partition('@')[0]}")
    return f"{shown[:80]}-{key}{IDENTITY_SUFFIX}"


def _keep_photo(photo: bytes | Path, path: Path) -> None:
    """Write a photo by its sha256. Raises DataError if the file has changed since that was computed."""
    if isinstance(photo, bytes):
        write_bytes(path, photo, PRIVATE_FILE_MODE)
        return
    copy_file(photo, path, PRIVATE_FILE_MODE)
    if sha256_of(path) != path.name:
        raise DataError(f"{photo} changed while it was read", "photos that stay as they are are needed", "Try again")
