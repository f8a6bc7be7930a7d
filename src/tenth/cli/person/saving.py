"""Where `tenth identity` keeps an identity: in a file, or with the photos as a person who is saved by name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.core.errors import RecipeError
from tenth.methods.people.folder import PeopleFolder, identity_file_name
from tenth.methods.people.record import Basis, Consent

if TYPE_CHECKING:
    from tenth.core.types import Identity, Method, Person


def parse_consent(basis: Basis | None, given_by: str | None, until: dt.date | None, name: str | None) -> Consent | None:
    """The consent of --consent and its options. Raises typer.BadParameter for these alone, RecipeError for no consent."""
    if basis is not None and name is None:
        raise typer.BadParameter("it is for --name", param_hint="--consent")
    if basis is None:
        if given_by is not None or until is not None:
            raise typer.BadParameter("it is for --consent", param_hint="--consent-by" if given_by else "--consent-until")
        return None
    if basis != "self" and not (given_by or "").strip():
        found = f"--consent {basis} without who gave it"
        raise RecipeError(found, "the person, or the licence that allows it, is needed", "Add --consent-by WHO")
    return Consent(basis, given_by or "", until=until)


@dataclass(frozen=True)
class NewIdentityFile:
    """path: of a new file, or of one of the very same identity. with_photos: whether photos may be in it."""

    path: Path
    with_photos: bool = False

    def check(self) -> None:
        """Raises CheckpointError if another file is there."""
        from tenth.experiments.output_folders import ensure_writable_identity

        ensure_writable_identity(self.path)

    def check_method(self, method: Method) -> None:
        """Raises IdentityError for a method whose identities contain photos, unless that is asked for."""
        from tenth.methods.identity_file import photos_unasked

        if method.keeps_photos and not self.with_photos:
            raise photos_unasked(method.name)

    def check_photos(self, person: Person, sources: Sequence[Path]) -> None:
        """Nothing: the identity is compared when it is there."""

    def check_model(self, model: str) -> None:
        """Raises CheckpointError if an identity for another model is there."""
        from tenth.experiments.output_folders import ensure_writable_identity

        ensure_writable_identity(self.path, model=model)

    def save(self, identity: Identity) -> Path:
        """The file that was written. Raises CheckpointError if another one is there."""
        from tenth.core.files.claims import remove_temporary_of
        from tenth.experiments.output_folders import ensure_writable_identity
        from tenth.methods.identity_file import save_identity

        keys = ("method", "model", "adapter", "photos", "photo_weights")
        ensure_writable_identity(self.path, **{key: getattr(identity, key) for key in keys})
        remove_temporary_of(self.path)
        save_identity(identity, self.path, new=True, with_photos=self.with_photos)
        return self.path


@dataclass
class PersonToSave:
    """A person to save, or to add an identity to. consent: None: that of a person who is saved."""

    name: str
    consent: Consent | None
    people: PeopleFolder = field(default_factory=PeopleFolder)
    photos: list[Path] = field(default_factory=list)

    def check(self) -> None:
        """Raises DataError for a name that nobody can have, or without a consent."""
        self.people.check_savable(self.name, self.consent)

    def check_method(self, method: Method) -> None:
        """Nothing: the photos are kept anyway."""

    def check_photos(self, person: Person, sources: Sequence[Path]) -> None:
        """Remember the files of the photos that are used. Raises CheckpointError if the name has others."""
        from tenth.data.photo_sources import photo_entries

        paths = {name: path for path, name in photo_entries(sources).items()}
        self.photos = [paths[photo.file] for photo in person.photos]
        self.people.check_savable(self.name, self.consent, [photo.digest for photo in person.photos])

    def check_model(self, model: str) -> None:
        """Nothing: a person has identities of several models."""

    def save(self, identity: Identity) -> Path:
        """The identity's file. Raises as `PeopleFolder.save`."""
        self.people.save(self.name, self.consent, self.photos, identity)
        return self.people.path(self.name) / "identities" / identity_file_name(identity)
