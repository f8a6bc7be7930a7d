"""Write people.jsonl from a folder of photos per person, to train and evaluate on your own people."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
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
from tenth.data.captions.templates import UNKNOWN_PERSON
from tenth.data.faces.detection import hash_distance, near_duplicate_hash
from tenth.data.manifest import ManifestEntry, ManifestSummary, summarize, write_manifest
from tenth.data.photo import open_photo
from tenth.data.photo_sources import folder_entries, natural_sort_key
from tenth.data.splits import MIN_EVALUATION_PHOTOS, SPLITS, fold_of, split_by_name

MANIFEST_FILE = "people.jsonl"
# Differing bits of `near_duplicate_hash` of two whole images, as a fraction of the bits that are set in either. A plain
# background sets no bits, so a limit in bits would make duplicates of all passport photos of a person. Of 17,765 pairs of LFW
# one is below it, a true duplicate; with the faces cut out on pure white, at most 8. Copies of half the size reach 0.06, at
# JPEG quality 60 0.09 (95 %: 0.056), at 25 mostly 0.05. Cropped copies are not found.
NEAR_DUPLICATE_FRACTION = 0.08
PHOTO_COUNT_NOTES = {  # of people with so many usable photos
    range(1): "no usable photo ({}): left out",
    range(1, 2): "a single usable photo ({}): no model learns from it to use several",
    range(2, MIN_EVALUATION_PHOTOS): "two to nine usable photos ({}): recipes that ask for nine references and a tenth photo"
    " pass them over; add photos, or lower references in the recipe",
}
LAYOUT = "each person has a folder with their photos in it, SOURCE/NAME/photo.jpg"


@dataclass(frozen=True)
class PersonFolder:
    """The files of one person, in file-name order.

    captions: the caption files of each photo that has some, the one to read first. texts: all caption files.
    num_subfolders: how many folders lie in the person's folder; they are not read.
    """

    name: str
    photos: Sequence[Path]
    captions: Mapping[Path, Sequence[Path]]
    texts: Sequence[Path]
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
    output = destination / MANIFEST_FILE
    with exclusive_folder(destination):
        remove_temporary_of(output)

        # People's folders. The output may lie among them.
        outputs = {os.path.realpath(path) for path in (destination, output)}
        entries = [path for path in _entries(source) if os.path.realpath(path) not in outputs]
        folders = [_person_folder(path) for path in entries if path.is_dir()]
        if not folders:
            found = f"{source} has {pluralize(len(entries), 'file')} and no folder" if entries else f"{source} is empty"
            raise DataError(found, LAYOUT, "Move the photos of each person into a folder of their own")

        # Captions first: they are quick to read, and may be refused.
        captions = read_captions({_file(photo): texts[0] for each in folders for photo, texts in each.captions.items()})
        opened, dropped = _open(folders)
        dropped |= _find_duplicates(opened)
        manifest = [_manifest_entry(photo, captions.get(photo.file, ())) for photo in opened if photo.file not in dropped]
        if not manifest:
            reasons = abbreviate(f"{file}: {reason.rstrip('.')}" for file, reason in dropped.items()) or "they are empty"
            found = f"{source} has no usable photo in its {pluralize(len(folders), 'folder')} ({reasons})"
            raise DataError(found, LAYOUT, "Give the folder that holds the people's folders, and mend or add photos")
        write_manifest(output, manifest)
    dropped = dict(sorted(dropped.items(), key=lambda item: natural_sort_key(item[0])))
    files = _notes_on_files(folders, len(entries) - len(folders), manifest, captions)
    return summarize(manifest, dropped, [*files, *_notes_on_people(manifest, folders)])


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files."""
    action = f"Give the folder in which {LAYOUT}; unpack an archive first"
    return [path for path in folder_entries(folder, "a folder of people is needed", action) if not path.name.startswith(".")]


def _person_folder(folder: Path) -> PersonFolder:
    entries = _entries(folder)
    subfolders = [path for path in entries if path.is_dir()]
    texts = [path for path in entries if path.suffix.lower() in CAPTION_SUFFIXES and path.is_file()]
    photos = [path for path in entries if path not in {*subfolders, *texts}]
    return PersonFolder(folder.name, photos, find_caption_files(photos, texts), texts, len(subfolders))


def _file(path: Path) -> str:
    """NAME/PHOTO, as the manifest has it."""
    return f"{path.parent.name}/{path.name}"


def _open(folders: Sequence[PersonFolder]) -> tuple[list[OpenedPhoto], dict[str, str]]:
    """(photos that could be opened, reasons for the others by file). One photo is in memory at a time."""
    opened: list[OpenedPhoto] = []
    dropped: dict[str, str] = {}
    photos = [(folder.name, path) for folder in folders for path in folder.photos]
    for name, path in tqdm(photos, desc="photos", file=sys.stderr, delay=2, disable=None):
        try:
            photo = open_photo(path)
        except PhotoError as error:
            dropped[_file(path)] = str(error)
        else:
            opened.append(OpenedPhoto(_file(path), name, photo.digest, near_duplicate_hash(photo.pixels)))
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
    variants, split = repeat_captions(captions), split_by_name(photo.person)
    return ManifestEntry(photo.file, photo.person, split, fold_of(photo.person), variants[0], variants, photo.digest)


def _have(people_or_files: Sequence[str], noun: str, text: str) -> Iterator[str]:
    """'3 photos have TEXT', unless there are none. {} in the text: the first of them."""
    if count := len(people_or_files):
        yield f"{pluralize(count, noun)} {'has' if count == 1 else 'have'} {text.format(abbreviate(people_or_files))}"


def _notes_on_files(
    folders: Sequence[PersonFolder], num_loose: int, manifest: Sequence[ManifestEntry], captions: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What is passed over, and which captions are used. num_loose: files beside the people's folders."""
    if num_loose:
        yield f"{pluralize(num_loose, 'file lies', 'files lie')} beside the people's folders: passed over"
    if deeper := [folder.name for folder in folders if folder.num_subfolders]:
        subfolders = pluralize(sum(folder.num_subfolders for folder in folders), "folder lies", "folders lie")
        yield f"{subfolders} inside people's folders ({abbreviate(deeper)}): passed over; photos lie directly in a person's"

    # Caption files without a photo, second ones of a photo, photos without one.
    of_photos = [texts for folder in folders for texts in folder.captions.values()]
    used = {text for texts in of_photos for text in texts}
    orphans = [_file(text) for folder in folders for text in folder.texts if text not in used]
    yield from _have(orphans, "caption file", "no photo of the same name beside them ({}): passed over")
    spare = [_file(text) for texts in of_photos for text in texts[1:]]
    yield from _have(spare, "photo", f"a {CAPTION_SUFFIXES[0]} beside them, too ({{}}): that one is read")
    without = [row.file for row in manifest if not captions.get(row.file)]
    if len(without) == len(manifest):
        yield f'no captions: every one is "{UNKNOWN_PERSON}", so a model learns no word for what a photo shows'
    else:
        yield from _have(without, "photo", f'no caption ({{}}): "{UNKNOWN_PERSON}" is taken')
    long = [row.file for row in manifest if len(captions.get(row.file, ())) > CAPTIONS_PER_PHOTO]
    yield from _have(long, "photo", f"more than {CAPTIONS_PER_PHOTO} captions ({{}}): the first {CAPTIONS_PER_PHOTO} are used")


def _notes_on_people(manifest: Sequence[ManifestEntry], folders: Sequence[PersonFolder]) -> Iterator[str]:
    """People with too few photos, then splits without people."""
    counts = Counter({folder.name: 0 for folder in folders})
    counts.update(row.person for row in manifest)
    for numbers, text in PHOTO_COUNT_NOTES.items():
        yield from _have([name for name, count in counts.items() if count in numbers], "person", text)
    used = {row.split for row in manifest}
    if empty := [split for split in SPLITS[:3] if split not in used]:
        yield (
            f"nobody is in {', '.join(empty)}: who is where follows from the folder's name alone, so a split of few people may "
            "stay empty; add people (twenty are mostly enough), or rename a folder to draw it anew"
        )
