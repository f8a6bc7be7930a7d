"""Write people.jsonl from Labeled Faces in the Wild (deep funneled): splits, captions, duplicates removed.

Source: Huang, Ramesh, Berg, Learned-Miller, UMass TR 07-49, 2007; Huang, Mattar, Lee, Learned-Miller, NIPS 2012.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tenth.core.errors import DataError, PhotoError
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.reading import UnreadableError, open_regular, reason, sha256_of, without_system_files
from tenth.core.files.writing import write_if_changed
from tenth.core.types import Pixels
from tenth.core.wording import pluralize
from tenth.data.captions.attributes import Attributes, read_attributes
from tenth.data.captions.templates import captions
from tenth.data.faces.detection import near_duplicate_hash
from tenth.data.manifest import (
    REPORT_FILE,
    DroppedPhoto,
    ManifestEntry,
    ManifestSummary,
    read_sources,
    remove_temporary_manifest,
    writing_manifest,
)
from tenth.data.photo import open_photo
from tenth.data.splits import TEST_FOLD, deduplicate, fold_of, split_of

MAX_ARCHIVE_BYTES = 1 << 28  # it has 108 MB
ATTRIBUTES = "attribute table"  # among the report's sources
WHERE_LFW_IS = "docs/data.md says where it is published"
ARCHIVE_MD5 = "68331da3eb755a505a502b5aacb3c201"  # lfw-deepfunneled.tgz as published
TOTAL_PHOTOS, TOTAL_PEOPLE = 13_233, 5_749  # in the whole set
CAPTIONS_PER_PHOTO = 8
CENTRAL_REGION = (61 / 250, 189 / 250)  # of each side: the face, with almost none of the black wedges
# Differing bits of `near_duplicate_hash` of the centre. Over all pairs of the data set, duplicates differ in 11 to 29 bits, all
# others in 45 or more. Less than detection's limit, because these photos are aligned and were saved in the same way.
NEAR_DUPLICATE_BITS = 36

# file -> reason. Source: the errata on LFW's page.
ERRATA: Mapping[str, str] = {
    "Mahmoud_Abbas/Mahmoud_Abbas_0012.jpg": "mislabelled (LFW errata)",
    "Michael_Schumacher/Michael_Schumacher_0008.jpg": "mislabelled (LFW errata)",
    "Recep_Tayyip_Erdogan/Recep_Tayyip_Erdogan_0004.jpg": "mislabelled (LFW errata)",
}
PATH_PATTERN = re.compile(r"(?:.*/)?(?P<name>[^/\\.][^/\\]*)/(?P=name)_(?P<number>[0-9]{4,})\.jpg")  # NAME/NAME_0001.jpg


@dataclass(frozen=True, order=True)
class LfwPhoto:
    """One photo of LFW. Sorted by name, then number."""

    person: str
    number: int
    path: Path

    @property
    def file(self) -> str:
        """NAME/NAME_0001.jpg, the key of the photo everywhere."""
        return f"{self.person}/{self.path.name}"


def read_lfw(source: Path, extracted: Path) -> list[LfwPhoto]:
    """All photos of an archive or folder, by name and number. An archive's photos are written under `extracted` first.

    source: lfw-deepfunneled.tgz, or a folder in LFW's layout, or one that contains it; it may be a part of the data set.
    Raises DataError if it is neither, or an archive other than the published one.
    """
    if not source.exists():
        needed = "the source is lfw-deepfunneled.tgz or a folder of it"
        raise DataError(f"{source} does not exist", needed, f"Check the path; {WHERE_LFW_IS}")
    photos = sorted(_photos_in(source) if source.is_dir() else _extract(source, extracted))
    if not photos:
        needed = "photos are NAME/NAME_0001.jpg, at most one folder down"
        action = f"Give the folder that holds the people's folders; {WHERE_LFW_IS}"
        raise DataError(f"{source} has no photo in LFW's layout", needed, action)
    return photos


def prepare_lfw(source: Path, destination: Path, attributes: Path | None = None, *, fold: int = TEST_FOLD) -> ManifestSummary:
    """Check, split and caption LFW, then write `destination`/people.jsonl and report.json. The same source, the same bytes.

    fold: the test fold; three runs with folds 0, 1 and 2 test everybody once. The bundled model was trained on folds 1 and 2.
    The photos of an archive are written to `destination`/photos.
    Raises DataError for a source or table that cannot be used, CheckpointError if another run is writing to `destination`.
    """
    with exclusive_folder(destination):
        remove_temporary(destination / "photos")
        remove_temporary_manifest(destination)
        table = read_attributes(attributes) if attributes else {}
        sources = _locked_sources(attributes, destination) if attributes else {}
        photos = read_lfw(source, destination / "photos")
        counts = full_photo_counts(photos, table)

        # Person by person: only one's photos are compared with each other.
        with writing_manifest(destination) as writer:
            num_missing = 0  # in the table
            for name, group in groupby(photos, key=lambda photo: photo.person):
                kept, dropped = _filter_photos(list(group))
                split, own_fold = split_of(name, counts[name], fold), fold_of(name)
                for file, digest in kept.items():
                    variants = tuple(captions(table.get(file), file, CAPTIONS_PER_PHOTO))
                    writer.add(ManifestEntry(file, name, split, own_fold, variants[0], variants, digest))
                    num_missing += file not in table
                for photo in dropped:
                    writer.drop(photo)
            notes = (
                f"{what}, sha256 {digest}: kept in {REPORT_FILE}, and compared from now on" for what, digest in sources.items()
            )
            return writer.finish((*notes, *_notes(source, photos, num_missing if attributes else None, fold)), sources)


def _locked_sources(attributes: Path, destination: Path) -> dict[str, str]:
    """The table's sha256: the first use keeps it. Raises DataError for another table than the folder's."""
    digest, known = sha256_of(attributes), read_sources(destination).get(ATTRIBUTES, "")
    if known not in ("", digest):
        found = f"{attributes} has the sha256 {digest}"
        raise DataError(found, f"{destination} was made with {known}", "Take that table, or choose another -o (docs/data.md)")
    return {ATTRIBUTES: digest}


def full_photo_counts(photos: Sequence[LfwPhoto], table: Mapping[str, Attributes]) -> dict[str, int]:
    """How many photos each person has in the whole data set, as far as this source shows.

    LFW numbers a person's photos 1, 2, ... without a gap, so the highest number is a lower bound; the attribute table lists the
    whole data set.
    """
    listed = [photo for file in table if (photo := _photo(Path(file)))]
    counts = dict.fromkeys((photo.person for photo in photos), 0)
    for photo in (*photos, *listed):
        if photo.person in counts:
            counts[photo.person] = max(counts[photo.person], photo.number)
    return counts


def people_folder(source: Path) -> Path:
    """The folder that holds the people's folders: `source`, or the one folder in it."""
    inside = (path for path in without_system_files(source, source.glob("*")) if path.is_dir() and path.name[0] != ".")
    folders = [] if any(source.glob("*/*.jpg")) else list(inside)
    return folders[0] if len(folders) == 1 else source


def _photos_in(source: Path) -> list[LfwPhoto]:
    folder = people_folder(source)
    return [photo for path in without_system_files(folder, folder.glob("*/*.jpg")) if (photo := _photo(path))]


def _photo(path: Path) -> LfwPhoto | None:
    found = PATH_PATTERN.fullmatch(path.as_posix())
    return LfwPhoto(found["name"], int(found["number"]), path) if found else None


def _check_archive(source: Path) -> None:
    try:
        with open_regular(source, MAX_ARCHIVE_BYTES) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{source} {reason(problem)}", "the published lfw-deepfunneled.tgz is needed", "Check it") from problem
    if digest != ARCHIVE_MD5:
        needed = f"the published lfw-deepfunneled.tgz has {ARCHIVE_MD5}"
        action = f"Download it again, or unpack it yourself and give the folder; {WHERE_LFW_IS}"
        raise DataError(f"{source} has md5 {digest}", needed, action)


def _extract(source: Path, extracted: Path) -> Iterator[LfwPhoto]:
    """Extract only regular files in LFW's layout, each to a path made from its validated name; links are ignored."""
    _check_archive(source)
    with tarfile.open(source, "r|gz") as archive:
        for member in archive:
            found = PATH_PATTERN.fullmatch(member.name)
            if not found or not member.isreg():
                continue
            content = archive.extractfile(member)
            assert content is not None  # a regular file has content
            path = extracted / found["name"] / Path(member.name).name
            write_if_changed(path, content.read())  # not `extract`: the first releases of Python 3.11 lack its safe filters
            yield LfwPhoto(found["name"], int(found["number"]), path)


def _filter_photos(photos: Sequence[LfwPhoto]) -> tuple[dict[str, str], list[DroppedPhoto]]:
    """(digests of kept photos by file, dropped ones) of one person."""
    # Photos that open, with their hashes.
    dropped: list[DroppedPhoto] = []
    opened: list[tuple[str, str, int]] = []
    for photo in photos:
        if photo.file in ERRATA:
            dropped.append(DroppedPhoto(photo.file, photo.person, "errata", ERRATA[photo.file]))
            continue
        try:
            found = open_photo(photo.path)
        except PhotoError as error:
            dropped.append(DroppedPhoto(photo.file, photo.person, error.code, error.found))
        else:
            opened.append((photo.file, found.digest, near_duplicate_hash(_crop_center(found.pixels))))

    # The first of each group of near-duplicates.
    files, digests, hashes = zip(*opened, strict=True) if opened else ((), (), ())
    kept = {files[index]: digests[index] for index in deduplicate(digests, hashes, NEAR_DUPLICATE_BITS)}
    copies = [file for file in files if file not in kept]
    return kept, dropped + [DroppedPhoto(file, photos[0].person, "copy", "near-duplicate of a kept photo") for file in copies]


def _crop_center(pixels: Pixels) -> Pixels:
    rows, columns = (slice(*(round(length * edge) for edge in CENTRAL_REGION)) for length in pixels.shape[:2])
    return pixels[rows, columns]  # (128, 128, 3) of (250, 250, 3)


def _notes(source: Path, photos: Sequence[LfwPhoto], num_missing: int | None, fold: int) -> Iterator[str]:
    """What the user should know. num_missing: kept photos that the attribute table does not have; None without a table."""
    # The photos, and what their captions are made of.
    if len(photos) < TOTAL_PHOTOS:
        people = len({photo.person for photo in photos})
        part = f"a part of LFW ({people:,} of {TOTAL_PEOPLE:,} people, {len(photos):,} of {TOTAL_PHOTOS:,} photos)"
        bound = "the attribute table" if num_missing is not None else "each person's highest photo number, a lower bound"
        yield f"{part}: how many photos the whole set has of a person is taken from {bound}"
    if num_missing is None:
        yield 'no attributes: every caption is "a photo of a person", so a model learns no word for what it shows'
    elif num_missing:
        found = pluralize(num_missing, "photo has", "photos have")
        yield f'{found} no line in the attribute table: captioned "a photo of a person"'

    # Other files, and another fold.
    if source.is_dir():
        inside = (path.relative_to(source) for path in without_system_files(source, source.rglob("*")) if path.is_file())
        others = sum(not any(part.startswith(".") for part in path.parts) for path in inside) - len(photos)
        if others:
            yield f"{pluralize(others, 'file is', 'files are')} not NAME/NAME_0001.jpg: passed over"
    if fold != TEST_FOLD:
        yield f"fold {fold} is for testing: train your models on this split; the package's own was trained on these people"
