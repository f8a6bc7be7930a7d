"""Forget a person: all that was made of their photos goes, then the photos, and at last the record that says whose they were.

In this order, so that whoever is killed in between is done by calling it again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenth.core.cache import default_cache_dir, image_hash
from tenth.core.cache_contents import DREAMBOOTH, PHOTOS_FILE, remove_photo_entries
from tenth.core.errors import CheckpointError, DataError, IdentityError, PhotoError
from tenth.core.files.claims import is_real_folder, list_entries, remove_folder, remove_temporary
from tenth.core.files.reading import UnreadableError, read_json
from tenth.core.files.writing import explain_os_errors, fsync_folder
from tenth.core.places import data_dir
from tenth.data.photo import open_photo
from tenth.methods.identity_file import read_identity_metadata
from tenth.methods.people.folder import IDENTITIES_FOLDER, PHOTOS_FOLDER, PeopleFolder, people_dir
from tenth.methods.people.outputs import Output, find_outputs
from tenth.methods.people.record import PERSON_FILE, read_person_record, write_person
from tenth.methods.people.shard_outputs import find_shard_outputs

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Removed:
    """How much was removed. cached: entries of the cache. trainings: runs of fine-tuning. images: below the folders given.

    files: what lay beside these: records, sheets, identity files.
    """

    photos: int = 0
    identities: int = 0
    cached: int = 0
    trainings: int = 0
    images: int = 0
    files: int = 0


def forget(people: PeopleFolder, name: str, output_folders: Iterable[Path] = (), *, decode: bool = False) -> Removed:
    """Remove a saved person: folder, identities, what the cache and fine-tuning keep of the photos, and images made of them.

    output_folders: in which images and identity files of these photos are looked for (outputs.py); photos there
    stay. decode: open photos and images too, for what `tenth evaluate` cached by their pixels. What another saved person's
    photos need stays in the cache. Nobody saved by this name: nothing is removed. Raises DataError for a folder that does not
    exist, CheckpointError while a run writes to what would go, both before the photos are removed: call it again.
    """
    remove_temporary(people.directory, recursive=False)  # of a process that was killed while it saved somebody
    folder = people.path(name)
    if not folder.is_dir():
        return Removed()
    digests = photo_digests(folder)
    outputs = find_person_outputs(people, name, output_folders)
    with suppress(IdentityError):  # damaged: what is there goes all the same
        write_person(replace(read_person_record(folder), forgetting=True), folder)

    # The cache, before the images: it is searched by their pixels.
    own = digests - _digests_of_others(people, name)
    images = [path for output in outputs for path in output.images]
    photos = [folder / PHOTOS_FOLDER / digest for digest in own]
    pixels = _pixel_hashes([*photos, *images]) if decode else ()
    cached, trainings = remove_learned(own, pixels)

    # Images, then the person's folder.
    for output in outputs:
        output.remove()
    num_photos, num_identities = (len(list_entries(folder / part)) for part in (PHOTOS_FOLDER, IDENTITIES_FOLDER))
    _remove_person(folder)
    return Removed(num_photos, num_identities, cached, trainings, len(images), sum(len(output.records) for output in outputs))


def remove_learned(digests: set[str], pixels: Collection[str] = ()) -> tuple[int, int]:
    """Remove what the cache and fine-tuning keep of photos; how many entries and runs. pixels: as `decode` finds them.

    digests: sha256 of the photos. Raises CheckpointError while a run of fine-tuning writes.
    """
    cached = remove_photo_entries(default_cache_dir(), digests, pixels)
    return cached, _remove_trainings(default_cache_dir() / DREAMBOOTH, digests)


def is_forgotten(people: PeopleFolder, name: str) -> bool:
    """Whether a person who was saved is removed, or being removed; whose consent ended, or whose disk went, is not."""
    folder = people.path(name)
    if not folder.exists():
        return people.directory.is_dir()
    with suppress(IdentityError):
        return read_person_record(folder).forgetting
    return False


@contextmanager
def forgotten_meanwhile(people: PeopleFolder, names: Collection[str]) -> Iterator[None]:
    """A block that works with saved people: of those who are forgotten meanwhile, nothing that it learned is kept.

    Raises IdentityError for them after a block that ended well.
    """
    digests = {name: photo_digests(people.path(name)) for name in names}
    gone: list[str] = []
    try:
        yield
    finally:
        gone += [name for name in names if is_forgotten(people, name)]
        for name in gone:
            with suppress(CheckpointError):  # of another run, which does the same then
                remove_learned(digests[name] - _digests_of_others(people, name))
    if gone:
        needed = "of whoever was forgotten tenth keeps nothing"
        raise IdentityError(f"{gone[0]} was forgotten meanwhile", needed, "Images that are there already are yours to remove")


def find_person_outputs(people: PeopleFolder, name: str, folders: Iterable[Path]) -> list[Output]:
    """What `forget` would remove below these folders; tenth's own folders are not searched."""
    own = [default_cache_dir(), data_dir(), *(each.directory for each in known_people(people))]
    digests = photo_digests(people.path(name))
    places = list(folders)
    found = [output for folder in places for output in find_outputs(folder, name, digests, own)]
    return found + [output for folder in places for output in find_shard_outputs(folder, digests, own)]


def photo_digests(folder: Path) -> set[str]:
    """sha256 of all photos of which there is something in a person's folder, also in a damaged one."""
    digests = set(list_entries(folder / PHOTOS_FOLDER))
    with suppress(IdentityError):
        digests.update(read_person_record(folder).photos)
    for name in list_entries(folder / IDENTITIES_FOLDER):
        with suppress(IdentityError):
            digests.update(read_identity_metadata(folder / IDENTITIES_FOLDER / name).photos)
    return set(filter(SHA256.fullmatch, digests))  # part of one would be the beginning of others' keys


def known_people(people: PeopleFolder) -> list[PeopleFolder]:
    """All folders of people that share this user's cache: this one, the default one, and those of the server's users."""
    users = data_dir() / "users"
    folders = [people.directory, people_dir(), *(users / name / "people" for name in sorted(list_entries(users)))]
    return [PeopleFolder(folder) for folder in dict.fromkeys(folders)]


def _digests_of_others(people: PeopleFolder, name: str) -> set[str]:
    forgotten = people.path(name)
    others = (each.directory / other for each in known_people(people) for other in each.names())
    return {digest for folder in others if folder != forgotten for digest in photo_digests(folder)}


def _pixel_hashes(paths: Sequence[Path]) -> set[str]:
    hashes = set()
    for path in paths:
        with suppress(PhotoError):
            hashes.add(image_hash(open_photo(path).pixels))
    return hashes


def _remove_trainings(directory: Path, digests: set[str]) -> int:
    """Remove the runs of fine-tuning on one of the photos, also those that do not say on which; how many those were."""
    removed = 0
    if not is_real_folder(directory):
        return 0
    remove_temporary(directory, recursive=False)
    for name in sorted(list_entries(directory)):
        try:
            photos: Any = read_json(directory / name / PHOTOS_FILE)
        except (OSError, UnreadableError):
            photos = None
        if not isinstance(photos, list) or digests.intersection(map(str, photos)):
            remove_folder(directory / name)
            removed += 1
    return removed


def _remove_person(folder: Path) -> None:
    """Remove the folder, the record last. Raises DataError for a link: what it leads to is nobody's here."""
    if not is_real_folder(folder):
        found = f"{folder} is a link, or no folder"
        raise DataError(found, "a person's own folder is removed, and nothing else", "Remove the link yourself")
    with explain_os_errors(folder):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != PERSON_FILE:
                path.unlink(missing_ok=True)
        (folder / PERSON_FILE).unlink(missing_ok=True)
        folder.rmdir()
        fsync_folder(folder.parent)
