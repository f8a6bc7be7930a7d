"""A folder for each person -> people.jsonl, to train and measure on one's own people."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from tenth.core.claims import claimed_folder, remove_temporary_of
from tenth.core.errors import DataError, PhotoError
from tenth.core.file_reading import without_litter
from tenth.core.wording import counted, few
from tenth.data.captions.sidecar_files import ENDINGS, VARIANTS, captions_beside, read_captions, variants
from tenth.data.faces import hash_distance, near_duplicate_hash
from tenth.data.manifest import Row, Summary, summary, write_rows
from tenth.data.photo import open_photo
from tenth.data.photo_folder import natural_order
from tenth.data.splits import SPLITS, TEN_PHOTOS, fold_of, split_by_name

PEOPLE = "people.jsonl"
# Differing bits of `near_duplicate_hash` of two whole pictures, as a share of the bits that are set in either: a plain
# background sets none, so a limit in bits would take all passport photos of a person for one. Of 17,765 pairs of LFW one is
# below, and shows one picture; with the faces cut out on pure white, at most 8. Copies of half the size have up to 0.06, at
# JPEG quality 60 up to 0.09 (95 % up to 0.056), at 25 mostly 0.05. Cropped copies are not told.
SAME_PICTURE = 0.08
LAYOUT = "each person has a folder with their photos in it, SOURCE/NAME/photo.jpg"


@dataclass(frozen=True)
class PersonFolder:
    """Files of one person, in the order of their names.

    texts: by photo. orphans: texts without a photo. spare: a photo's second text. inside: how many folders.
    """

    name: str
    photos: tuple[Path, ...]
    texts: Mapping[str, Path]
    orphans: tuple[str, ...]
    spare: tuple[str, ...]
    inside: int


@dataclass(frozen=True)
class Opened:
    """What is remembered of a photo. hash: `near_duplicate_hash` of the whole picture."""

    file: str
    person: str
    digest: str
    hash: int

    def shows_the_same_as(self, other: Opened) -> bool:
        """Whether it is the same file, or the same picture saved anew."""
        most = SAME_PICTURE * (self.hash | other.hash).bit_count()
        return self.digest == other.digest or hash_distance(self.hash, other.hash) <= most


def write_people(source: Path, destination: Path) -> Summary:
    """Check, split and caption the photos in `source`; write `destination`/people.jsonl, last and at once.

    source: a folder for each person; rows are relative to it. The same source gives the same bytes.
    Raises DataError for another layout, a caption that cannot be read, or if no photo can be used, CheckpointError if another
    run is writing to `destination`.
    """
    with claimed_folder(destination):
        remove_temporary_of(destination / PEOPLE)
        return _write_people(source, destination)


def _write_people(source: Path, destination: Path) -> Summary:
    ours = {os.path.realpath(path) for path in (destination, destination / PEOPLE)}
    entries = [path for path in _entries(source) if os.path.realpath(path) not in ours]
    folders = [_person_folder(path) for path in entries if path.is_dir()]
    if not folders:
        found = f"{source} has {counted(len(entries), 'file')} and no folder" if entries else f"{source} is empty"
        raise DataError(found, LAYOUT, "Move the photos of each person into a folder of their own")
    captions = read_captions({file: path for folder in folders for file, path in folder.texts.items()})  # quick, so first

    opened, dropped = _open(folders)
    dropped |= _copies(opened)
    rows = [_row(photo, captions.get(photo.file, ())) for photo in opened if photo.file not in dropped]
    if not rows:
        reasons = few(f"{file}: {reason.rstrip('.')}" for file, reason in dropped.items())
        found = f"{source} has no usable photo in its {counted(len(folders), 'folder')} ({reasons or 'they are empty'})"
        raise DataError(found, LAYOUT, "Give the folder that holds the people's folders, and mend or add photos")
    write_rows(destination / PEOPLE, rows)
    loose = sum(not path.is_dir() for path in entries)
    notes = [*_notes_on_files(folders, loose), *_notes_on_captions(rows, captions), *_notes_on_people(rows, folders)]
    return summary(rows, dict(sorted(dropped.items(), key=lambda item: natural_order(item[0]))), notes)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, hidden files left out, '2' before '10'."""
    action = f"Give the folder in which {LAYOUT}"
    try:
        visible = [path for path in without_litter(folder, folder.iterdir()) if not path.name.startswith(".")]
    except FileNotFoundError as error:
        raise DataError(f"{folder} does not exist", "a folder of people is needed", action) from error
    except NotADirectoryError as error:
        raise DataError(f"{folder} is a file", "a folder of people is needed", f"{action}; unpack an archive first") from error
    return sorted(visible, key=lambda path: natural_order(path.name))


def _person_folder(folder: Path) -> PersonFolder:
    entries = _entries(folder)
    inside = [path for path in entries if path.is_dir()]
    texts = [path for path in entries if path.suffix.lower() in ENDINGS and path.is_file()]
    others = {*inside, *texts}
    photos = tuple(path for path in entries if path not in others)
    beside = captions_beside(photos, texts)
    used = {path: captions[0] for captions in beside.values() for path in captions}
    return PersonFolder(
        name=folder.name,
        photos=photos,
        texts={f"{folder.name}/{photo.name}": captions[0] for photo, captions in beside.items()},
        orphans=tuple(f"{folder.name}/{path.name}" for path in texts if path not in used),
        spare=tuple(f"{folder.name}/{path.name}" for path in texts if used.get(path, path) != path),
        inside=len(inside),
    )


def _open(folders: Sequence[PersonFolder]) -> tuple[list[Opened], dict[str, str]]:
    """(what could be opened, reasons of the others by file). One photo is in memory at a time."""
    opened: list[Opened] = []
    dropped: dict[str, str] = {}
    photos = [(folder.name, path) for folder in folders for path in folder.photos]
    for name, path in tqdm(photos, desc="photos", file=sys.stderr, delay=2, disable=None):
        file = f"{name}/{path.name}"
        try:
            photo = open_photo(path)
        except PhotoError as error:
            dropped[file] = str(error)
        else:
            opened.append(Opened(file, name, photo.digest, near_duplicate_hash(photo.pixels)))
    return opened, dropped


def _copies(opened: Sequence[Opened]) -> dict[str, str]:
    """Reasons by file: a photo under two people is dropped for both, of the copies of one person's photo the first stays."""
    owners: dict[str, dict[str, str]] = defaultdict(dict)  # file by person, by digest
    for photo in opened:
        owners[photo.digest].setdefault(photo.person, photo.file)
    dropped: dict[str, str] = {}
    for name, group in groupby(opened, key=lambda photo: photo.person):
        earlier: list[Opened] = []
        # Photos of two people come first, so that a copy saved anew goes with them.
        for photo in sorted(group, key=lambda photo: len(owners[photo.digest]) == 1):
            others = [file for owner, file in owners[photo.digest].items() if owner != name]
            same = next((other for other in earlier if photo.shows_the_same_as(other)), None)
            if others:
                dropped[photo.file] = f"the same photo is {others[0]}, and whose it is cannot be told; keep the right one"
            elif same:
                dropped[photo.file] = f"the same picture as {same.file}"
            if same is None:
                earlier.append(photo)
    return dropped


def _row(photo: Opened, captions: Sequence[str]) -> Row:
    said = variants(captions)
    return Row(photo.file, photo.person, split_by_name(photo.person), fold_of(photo.person), said[0], said, photo.digest)


def _notes_on_files(folders: Sequence[PersonFolder], loose: int) -> Iterator[str]:
    if loose:
        yield f"{counted(loose, 'file lies', 'files lie')} beside the people's folders: passed over"
    if deeper := [folder.name for folder in folders if folder.inside]:
        inside = counted(sum(folder.inside for folder in folders), "folder lies", "folders lie")
        yield f"{inside} inside people's folders ({few(deeper)}): passed over; photos lie directly in a person's"
    if orphans := [file for folder in folders for file in folder.orphans]:
        found = counted(len(orphans), "caption file has", "caption files have")
        yield f"{found} no photo of the same name beside them ({few(orphans)}): passed over"
    if spare := [file for folder in folders for file in folder.spare]:
        found = counted(len(spare), "photo has", "photos have")
        yield f"{found} a {ENDINGS[0]} beside them, too ({few(spare)}): that one is read"


def _notes_on_captions(rows: Sequence[Row], captions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    without = [row.file for row in rows if not captions.get(row.file)]
    if len(without) == len(rows):
        yield f'no captions: every one is "{rows[0].caption}", so a model learns no word for what a photo shows'
    elif without:
        yield f'{counted(len(without), "photo has", "photos have")} no caption ({few(without)}): "{variants(())[0]}" is taken'
    if long := [row.file for row in rows if len(captions.get(row.file, ())) > VARIANTS]:
        found = counted(len(long), "photo has", "photos have")
        yield f"{found} more than {VARIANTS} captions ({few(long)}): the first {VARIANTS} are used"


def _notes_on_people(rows: Sequence[Row], folders: Sequence[PersonFolder]) -> Iterator[str]:
    counts = {folder.name: 0 for folder in folders}
    for row in rows:
        counts[row.person] += 1

    def have(people: Sequence[str]) -> str:
        return counted(len(people), "person has", "people have")

    if nobody := [name for name, count in counts.items() if count == 0]:
        yield f"{have(nobody)} no usable photo ({few(nobody)}): left out"
    if single := [name for name, count in counts.items() if count == 1]:
        yield f"{have(single)} a single usable photo ({few(single)}): no model learns from it to use several"
    if short := [name for name, count in counts.items() if 1 < count < TEN_PHOTOS]:
        yield (
            f"{have(short)} two to nine usable photos ({few(short)}): recipes that ask for nine references and a "
            "tenth photo pass them over; add photos, or lower references in the recipe"
        )
    used = {row.split for row in rows}
    if empty := [split for split in SPLITS[:3] if split not in used]:
        yield (
            f"nobody is in {', '.join(empty)}: who is where follows from the folder's name alone, so a split of few people may "
            "stay empty; add people (twenty are mostly enough), or rename a folder to draw it anew"
        )
