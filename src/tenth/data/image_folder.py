"""Write people.jsonl from a folder of photos per person, to train and evaluate on your own people."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from tenth.core.errors import DataError, PhotoError
from tenth.core.files.claims import exclusive_folder, remove_temporary_of
from tenth.core.wording import abbreviate, pluralize
from tenth.data.captions.sidecar_files import (
    CAPTION_SUFFIXES,
    CAPTIONS_PER_PHOTO,
    find_caption_files,
    read_captions,
    repeat_captions,
)
from tenth.data.faces.detection import hash_distance, near_duplicate_hash
from tenth.data.manifest import ManifestEntry, ManifestSummary, summarize, write_manifest
from tenth.data.photo import open_photo
from tenth.data.photo_folder import folder_entries, natural_sort_key
from tenth.data.splits import MIN_EVALUATION_PHOTOS, SPLITS, fold_of, split_by_name

MANIFEST_FILE = "people.jsonl"
# Differing bits of `near_duplicate_hash` of two whole images, as a fraction of the bits that are set in either. A plain
# background sets no bits, so a limit in bits would make duplicates of all passport photos of a person. Of 17,765 pairs of LFW
# one is below it, a true duplicate; with the faces cut out on pure white, at most 8. Copies of half the size reach 0.06, at
# JPEG quality 60 0.09 (95 %: 0.056), at 25 mostly 0.05. Cropped copies are not found.
NEAR_DUPLICATE_FRACTION = 0.08
LAYOUT = "each person has a folder with their photos in it, SOURCE/NAME/photo.jpg"


@dataclass(frozen=True)
class PersonFolder:
    """The files of one person, in file-name order.

    caption_files: by photo. orphan_captions: without a photo. extra_captions: second ones of a photo. num_subfolders: how
    many folders lie in the person's folder; they are not read.
    """

    name: str
    photos: tuple[Path, ...]
    caption_files: Mapping[str, Path]
    orphan_captions: tuple[str, ...]
    extra_captions: tuple[str, ...]
    num_subfolders: int


@dataclass(frozen=True)
class OpenedPhoto:
    """What is kept of a photo. hash: `near_duplicate_hash` of the whole image."""

    file: str
    person: str
    digest: str
    hash: int

    def is_near_duplicate(self, other: OpenedPhoto) -> bool:
        """Whether it is the same file, or the same image saved again."""
        max_distance = NEAR_DUPLICATE_FRACTION * (self.hash | other.hash).bit_count()
        return self.digest == other.digest or hash_distance(self.hash, other.hash) <= max_distance


def prepare_folder(source: Path, destination: Path) -> ManifestSummary:
    """Check, split and caption the photos in `source`, then write `destination`/people.jsonl atomically.

    source: contains a folder for each person; rows are relative to it. The same source gives the same bytes.
    Raises DataError for another layout, a caption that cannot be read, or if no photo can be used, CheckpointError if another
    run is writing to `destination`.
    """
    with exclusive_folder(destination):
        remove_temporary_of(destination / MANIFEST_FILE)
        return _prepare(source, destination)


def _prepare(source: Path, destination: Path) -> ManifestSummary:
    # People's folders. The output may lie among them.
    outputs = {os.path.realpath(path) for path in (destination, destination / MANIFEST_FILE)}
    entries = [path for path in _entries(source) if os.path.realpath(path) not in outputs]
    folders = [_person_folder(path) for path in entries if path.is_dir()]
    if not folders:
        found = f"{source} has {pluralize(len(entries), 'file')} and no folder" if entries else f"{source} is empty"
        raise DataError(found, LAYOUT, "Move the photos of each person into a folder of their own")

    # Captions first: they are quick to read, and may be refused.
    captions = read_captions({file: path for folder in folders for file, path in folder.caption_files.items()})
    opened, dropped = _open(folders)
    dropped |= _find_duplicates(opened)
    manifest = [_manifest_entry(photo, captions.get(photo.file, ())) for photo in opened if photo.file not in dropped]
    if not manifest:
        reasons = abbreviate(f"{file}: {reason.rstrip('.')}" for file, reason in dropped.items())
        found = f"{source} has no usable photo in its {pluralize(len(folders), 'folder')} ({reasons or 'they are empty'})"
        raise DataError(found, LAYOUT, "Give the folder that holds the people's folders, and mend or add photos")

    write_manifest(destination / MANIFEST_FILE, manifest)
    num_loose_files = sum(not path.is_dir() for path in entries)
    notes = [
        *_notes_on_files(folders, num_loose_files),
        *_notes_on_captions(manifest, captions),
        *_notes_on_people(manifest, folders),
    ]
    return summarize(manifest, dict(sorted(dropped.items(), key=lambda item: natural_sort_key(item[0]))), notes)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files."""
    action = f"Give the folder in which {LAYOUT}; unpack an archive first"
    return [path for path in folder_entries(folder, "a folder of people is needed", action) if not path.name.startswith(".")]


def _person_folder(folder: Path) -> PersonFolder:
    entries = _entries(folder)
    subfolders = [path for path in entries if path.is_dir()]
    texts = [path for path in entries if path.suffix.lower() in CAPTION_SUFFIXES and path.is_file()]
    others = {*subfolders, *texts}
    photos = tuple(path for path in entries if path not in others)
    caption_files = find_caption_files(photos, texts)
    used = {path: captions[0] for captions in caption_files.values() for path in captions}
    return PersonFolder(
        name=folder.name,
        photos=photos,
        caption_files={f"{folder.name}/{photo.name}": captions[0] for photo, captions in caption_files.items()},
        orphan_captions=tuple(f"{folder.name}/{path.name}" for path in texts if path not in used),
        extra_captions=tuple(f"{folder.name}/{path.name}" for path in texts if used.get(path, path) != path),
        num_subfolders=len(subfolders),
    )


def _open(folders: Sequence[PersonFolder]) -> tuple[list[OpenedPhoto], dict[str, str]]:
    """(photos that could be opened, reasons for the others by file). One photo is in memory at a time."""
    opened: list[OpenedPhoto] = []
    dropped: dict[str, str] = {}
    photos = [(folder.name, path) for folder in folders for path in folder.photos]
    for name, path in tqdm(photos, desc="photos", file=sys.stderr, delay=2, disable=None):
        file = f"{name}/{path.name}"
        try:
            photo = open_photo(path)
        except PhotoError as error:
            dropped[file] = str(error)
        else:
            opened.append(OpenedPhoto(file, name, photo.digest, near_duplicate_hash(photo.pixels)))
    return opened, dropped


def _find_duplicates(opened: Sequence[OpenedPhoto]) -> dict[str, str]:
    """Reasons by file. A photo that two people have is dropped for both; of one person's duplicates the first is kept."""
    files_by_person: dict[str, dict[str, str]] = defaultdict(dict)  # digest -> person -> file
    for photo in opened:
        files_by_person[photo.digest].setdefault(photo.person, photo.file)
    dropped: dict[str, str] = {}
    for name, group in groupby(opened, key=lambda photo: photo.person):
        earlier: list[OpenedPhoto] = []
        # Photos that two people have come first, so that near-duplicates of them are dropped, too.
        for photo in sorted(group, key=lambda photo: len(files_by_person[photo.digest]) == 1):
            others = [file for owner, file in files_by_person[photo.digest].items() if owner != name]
            duplicate = next((other for other in earlier if photo.is_near_duplicate(other)), None)
            if others:
                dropped[photo.file] = f"the same photo is {others[0]}, and whose it is cannot be told; keep the right one"
            elif duplicate:
                dropped[photo.file] = f"the same picture as {duplicate.file}"
            if duplicate is None:
                earlier.append(photo)
    return dropped


def _manifest_entry(photo: OpenedPhoto, captions: Sequence[str]) -> ManifestEntry:
    variants = repeat_captions(captions)
    return ManifestEntry(
        photo.file, photo.person, split_by_name(photo.person), fold_of(photo.person), variants[0], variants, photo.digest
    )


def _notes_on_files(folders: Sequence[PersonFolder], num_loose_files: int) -> Iterator[str]:
    if num_loose_files:
        yield f"{pluralize(num_loose_files, 'file lies', 'files lie')} beside the people's folders: passed over"
    if deeper := [folder.name for folder in folders if folder.num_subfolders]:
        subfolders = pluralize(sum(folder.num_subfolders for folder in folders), "folder lies", "folders lie")
        yield f"{subfolders} inside people's folders ({abbreviate(deeper)}): passed over; photos lie directly in a person's"
    if orphans := [file for folder in folders for file in folder.orphan_captions]:
        found = pluralize(len(orphans), "caption file has", "caption files have")
        yield f"{found} no photo of the same name beside them ({abbreviate(orphans)}): passed over"
    if spare := [file for folder in folders for file in folder.extra_captions]:
        found = pluralize(len(spare), "photo has", "photos have")
        yield f"{found} a {CAPTION_SUFFIXES[0]} beside them, too ({abbreviate(spare)}): that one is read"


def _notes_on_captions(entries: Sequence[ManifestEntry], captions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    without = [row.file for row in entries if not captions.get(row.file)]
    if len(without) == len(entries):
        yield f'no captions: every one is "{entries[0].caption}", so a model learns no word for what a photo shows'
    elif without:
        found = pluralize(len(without), "photo has", "photos have")
        yield f'{found} no caption ({abbreviate(without)}): "{repeat_captions(())[0]}" is taken'
    if long := [row.file for row in entries if len(captions.get(row.file, ())) > CAPTIONS_PER_PHOTO]:
        found = pluralize(len(long), "photo has", "photos have")
        yield f"{found} more than {CAPTIONS_PER_PHOTO} captions ({abbreviate(long)}): the first {CAPTIONS_PER_PHOTO} are used"


def _notes_on_people(entries: Sequence[ManifestEntry], folders: Sequence[PersonFolder]) -> Iterator[str]:
    counts = {folder.name: 0 for folder in folders}
    for row in entries:
        counts[row.person] += 1

    def have(people: Sequence[str]) -> str:
        return pluralize(len(people), "person has", "people have")

    # People with too few photos, then splits without people.
    if unusable := [name for name, count in counts.items() if count == 0]:
        yield f"{have(unusable)} no usable photo ({abbreviate(unusable)}): left out"
    if single := [name for name, count in counts.items() if count == 1]:
        yield f"{have(single)} a single usable photo ({abbreviate(single)}): no model learns from it to use several"
    if short := [name for name, count in counts.items() if 1 < count < MIN_EVALUATION_PHOTOS]:
        yield (
            f"{have(short)} two to nine usable photos ({abbreviate(short)}): recipes that ask for nine references and a "
            "tenth photo pass them over; add photos, or lower references in the recipe"
        )
    used = {row.split for row in entries}
    if empty := [split for split in SPLITS[:3] if split not in used]:
        yield (
            f"nobody is in {', '.join(empty)}: who is where follows from the folder's name alone, so a split of few people may "
            "stay empty; add people (twenty are mostly enough), or rename a folder to draw it anew"
        )
