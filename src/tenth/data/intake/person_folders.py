"""What lies in the folder of one person, and what is kept of a photo. Each by itself, so that any worker can look."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tenth.core.errors import DataError, PhotoError
from tenth.core.files.reading import is_system_file, reason
from tenth.data.captions.sidecar_files import CAPTION_SUFFIXES, find_caption_files, read_caption
from tenth.data.faces.detection import near_duplicate_hash
from tenth.data.near_duplicates import HASH_BYTES
from tenth.data.photo import open_photo
from tenth.data.photo_sources import natural_sort_key


@dataclass(frozen=True)
class FoundPhoto:
    """A file that may be a photo, not opened yet. state: of the file, another one after any change. captions: as written."""

    file: str
    state: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PersonFolder:
    """The files of one person, in the order of their names.

    num_subfolders: folders in it, which are not read. orphans: caption files of no photo. spare: second ones of a photo.
    problems: what is wrong with its caption files. unreadable: why the folder could not be read, else ''.
    """

    name: str
    photos: tuple[FoundPhoto, ...] = ()
    num_subfolders: int = 0
    orphans: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unreadable: str = ""


@dataclass(frozen=True)
class OpenedPhoto:
    """What is kept of a photo. digest: sha256 of the file. hash: `near_duplicate_hash` of the whole image, HASH_BYTES bytes."""

    digest: bytes
    hash: bytes


@dataclass(frozen=True)
class RefusedPhoto:
    """Why a file is no usable photo. code: a short word, as in `PhotoError`."""

    code: str
    reason: str


def make_folder_reader(source: Path) -> Callable[[Sequence[str]], list[PersonFolder]]:
    """What reads the folders of these names in `source`."""
    return partial(_read_folders, source)


def make_photo_opener(source: Path) -> Callable[[Sequence[tuple[str, str]]], list[OpenedPhoto | RefusedPhoto]]:
    """What opens the photos of these persons and files in `source`, one at a time."""
    return partial(_open_photos, source)


def _read_folders(source: Path, names: Sequence[str]) -> list[PersonFolder]:
    return [read_person_folder(source / name) for name in names]


def read_person_folder(folder: Path) -> PersonFolder:
    """What lies in a folder, and its captions. No photo is opened. Hidden and system files are left out."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".") and not is_system_file(name)]  # noqa: PTH208 - names
    except OSError as error:
        return PersonFolder(folder.name, unreadable=reason(error))

    # Folders, caption files, and all else, which may be photos.
    states = {folder / name: _state(folder / name) for name in sorted(names, key=natural_sort_key)}
    folders = [path for path, state in states.items() if state and stat.S_ISDIR(state.st_mode)]
    texts = [
        path
        for path, state in states.items()
        if path.suffix.lower() in CAPTION_SUFFIXES and state and stat.S_ISREG(state.st_mode)
    ]
    others = {*folders, *texts}
    photos = [path for path in states if path not in others]

    # Captions are quick to read, and may be refused.
    captions, problems = {}, []
    of_photos = find_caption_files(photos, texts)
    for photo, files in of_photos.items():
        try:
            captions[photo] = read_caption(files[0])
        except DataError as error:
            problems.append(error.found)
    used = {file for files in of_photos.values() for file in files}
    return PersonFolder(
        folder.name,
        tuple(FoundPhoto(path.name, _describe(states[path]), captions.get(path, ())) for path in photos),
        len(folders),
        tuple(text.name for text in texts if text not in used),
        tuple(file.name for files in of_photos.values() for file in files[1:]),
        tuple(problems),
    )


def _open_photos(source: Path, photos: Sequence[tuple[str, str]]) -> list[OpenedPhoto | RefusedPhoto]:
    return [_open(source / person / file) for person, file in photos]


def _open(path: Path) -> OpenedPhoto | RefusedPhoto:
    try:
        photo = open_photo(path)
    except PhotoError as error:
        return RefusedPhoto(error.code, str(error))
    return OpenedPhoto(bytes.fromhex(photo.digest), near_duplicate_hash(photo.pixels).to_bytes(HASH_BYTES, "big"))


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # gone, a link to nowhere or to itself
        return None


def _describe(state: os.stat_result | None) -> str:
    """Of a file's content as far as its folder shows: a copy over it, or a change in it, has another one."""
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}" if state else ""
