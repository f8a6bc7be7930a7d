"""`tenth people` and `tenth forget`: who is saved, by whose consent, and how a person is removed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from tenth.cli import parameters
from tenth.core.console import print_message, print_records, print_result
from tenth.core.errors import DataError, IdentityError
from tenth.core.wording import abbreviate, did_you_mean, pluralize, printable

if TYPE_CHECKING:
    from pathlib import Path

    from tenth.methods.people.folder import PeopleFolder
    from tenth.methods.people.outputs import Output

PLURALS = {"identities": ("identity", "identities"), "cached": ("entry of the cache", "entries of the cache")}
PLURALS |= {"trainings": ("run of fine-tuning", "runs of fine-tuning"), "files": ("other file", "other files")}


def people(json: parameters.Json = False) -> int:
    """List the people saved by `tenth identity --name`, and by whose consent. `tenth forget NAME` removes one."""
    from tenth.core.config import to_table
    from tenth.methods.people.folder import PeopleFolder

    saved = PeopleFolder()
    records = [to_table(person) for person in saved.list()]
    if records or json:
        print_records("people", records, _describe_person, json)
    print_message(f"in {saved.directory}" if records else "nobody is saved yet: `tenth identity DIR --name NAME`")
    return 0


def _describe_person(person: Mapping[str, Any]) -> str:
    if person["problem"]:
        return f"cannot be used: {printable(person['problem'])}"
    consent = person["consent"]
    given = f"consent: {consent['basis']}{', ' * bool(consent['given_by'])}{consent['given_by']}, {consent['date']}"
    until = f" to {consent['until']}" if consent["until"] else ""
    models = ", ".join(model.partition("@")[0] for model in person["models"])
    made = f"{', '.join(person['methods'])} ({models})" if person["methods"] else "no identity"
    return f"{pluralize(person['num_photos'], 'photo')}, {made}; {given}{until}"


def forget(
    name: parameters.SavedName,
    folders: parameters.ForgetIn = [],  # noqa: B006 - typer's, never changed
    yes: parameters.Yes = False,
    json: parameters.Json = False,
) -> int:
    """Remove a saved person: photos, identities, trained weights, pictures and jobs of `tenth serve`, and all in the cache.

    With --in also the images, identity files and encoded training sets below a folder that were made of the person's photos,
    also images in the shards of a batch: later nothing would know which those are. Photos there stay. Asks first. Stopped or
    killed, the same command ends it.
    """
    from tenth.methods.people.folder import PeopleFolder
    from tenth.methods.people.forget import find_person_outputs

    # Who is meant: a name that resembles a saved one is a slip, any other has been forgotten already.
    saved = PeopleFolder()
    known = name in saved.names()
    saved.path(name)  # refuses what is no name
    if not known and (similar := did_you_mean(name, saved.names())):
        needed = f"one of {abbreviate(saved.names())} is needed"
        raise IdentityError(f"nobody is saved as {name}", needed, f"{similar}Correct it")
    outputs = find_person_outputs(saved, name, folders) if known else []
    if known and not yes:
        _ask(name, saved, outputs, searched=bool(folders))

    # What was removed.
    removed = _forget(name, saved, folders)
    if json:
        print_result({"removed": removed})
        return 0
    texts = [pluralize(count, *PLURALS.get(kind, (kind.removesuffix("s"),))) for kind, count in removed.items() if count]
    print_result(f"removed: {', '.join(texts) or 'nothing'}")
    if not known:
        print_message(f"nobody is saved as {printable(name)}")
    return 0


def _ask(name: str, people: PeopleFolder, outputs: Sequence[Output], *, searched: bool) -> None:
    """Ask whether all of this is to go. Raises DataError where nobody can answer, typer.Exit for a no."""
    if not sys.stdin.isatty():
        found = f"{printable(name)} would be forgotten for good"
        raise DataError(found, "a yes is needed, and nobody is there to be asked", "Add --yes")
    images, others = (sum(len(getattr(output, kind)) for output in outputs) for kind in ("images", "records"))
    print_message(f"{name}: {people.path(name)}, what the cache and `tenth serve` have of it")
    found = f"{pluralize(images, 'image')} and {pluralize(others, 'other file')} in folders of yours: {len(outputs)}"
    print_message(found if searched else "images in folders of yours stay, and nothing will know whose they are: see --in")
    if not typer.confirm("remove all of it?", err=True):
        raise typer.Exit(1)


def _forget(name: str, people: PeopleFolder, folders: Sequence[Path]) -> dict[str, int]:
    """Remove the person, and jobs and pictures of `tenth serve` where it was used; how much of what."""
    from tenth.core.places import data_dir
    from tenth.methods.people.forget import forget as forget_saved
    from tenth.server.storage.database import DATABASE_FILE, Database

    if not (data_dir() / DATABASE_FILE).exists():
        return asdict(forget_saved(people, name, folders, decode=True))
    from tenth.server.forgetting import forget as forget_everywhere

    return forget_everywhere(Database(data_dir()), people, "", name, folders, decode=True)
