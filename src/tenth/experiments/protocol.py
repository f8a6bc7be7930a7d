"""The evaluation protocol: the references and the held-out photos of each person of a split, which never overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.files.reading import without_system_files
from tenth.core.marks.png import write_png
from tenth.core.types import FeatureArray, Photo, Pixels
from tenth.data.captions.person_attributes import PersonAttributes, attributes_of_people
from tenth.data.faces.crops import PhotoDataset
from tenth.data.faces.detection import NEAR_DUPLICATE_BITS, crop_face, hash_distance, near_duplicate_hash
from tenth.data.manifest import ManifestEntry
from tenth.data.splits import ReferenceSplit, deduplicate, split_references
from tenth.evaluation.attribute_table import attributes_of_crops
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import extract_cached
from tenth.experiments.recipe import ExperimentRecipe

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class EvaluatedPerson:
    """One person's real photos: embeddings (K, D) by recognizer. crops: the references, for the report.

    attributes: what `person_attributes` knows of the person, by name; unknown ones are missing.
    """

    person_id: str
    crops: tuple[Pixels, ...]
    references: tuple[FeatureArray, ...]
    held_out: tuple[FeatureArray, ...]
    attributes: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class RealImages:
    """Crops of the real photos, saved beside the generated images: for the report, controls and metrics of image sets."""

    output: Path

    def save(self, person_id: str, references: Sequence[Pixels], held_out: Sequence[Pixels]) -> None:
        """Write the crops of one person, and the mean of the references."""
        average = np.rint(np.mean(references, axis=0)).astype(np.uint8)
        for subfolder, images in (("references", references), ("held-out", held_out), ("averages", [average])):
            for index, pixels in enumerate(images):
                write_png(self.output / subfolder / person_id / f"{index:02}.png", Image.fromarray(pixels), photo=True)

    def paths(self, subfolder: str, person_id: str) -> list[Path]:
        """subfolder: "references" in the order in which methods get them, "held-out", or "averages", the mean of those."""
        folder = self.output / subfolder / person_id
        return without_system_files(folder, folder.glob("*.png"))


def embed_people(
    recipe: ExperimentRecipe, recognizers: Mapping[str, FaceEmbedder], real: RealImages
) -> Iterator[tuple[EvaluatedPerson, ReferenceSplit]]:
    """Every usable person of the recipe's split, with the photos; crops of the photos are saved on the way.

    Left out, whatever the methods: people with too few distinct photos, and those in whose references or held-out photos a
    recognizer finds no face at all.
    """
    listed = attributes_by_id(recipe.data, recipe.split)
    split = split_people(recipe.data, recipe.split, references=recipe.references, held_out=recipe.held_out)
    for person_id, photos in split:
        crops = [list(map(face_crop, side)) for side in (photos.references, photos.held_out)]
        images = crops
        if recipe.real_photo_framing == "photo":
            images = [[photo.pixels for photo in side] for side in (photos.references, photos.held_out)]
        references, held_out = (
            tuple(extract_cached(side, recognizer) for recognizer in recognizers.values()) for side in images
        )
        if not any(np.isnan(rows).any(1).all() for rows in (*references, *held_out)):
            real.save(person_id, *crops)
            known = person_attributes(listed, person_id, crops[0])
            yield EvaluatedPerson(person_id, tuple(crops[0]), references, held_out, known), photos


def split_people(people: PhotoDataset, split: str, *, references: int, held_out: int) -> Iterator[tuple[str, ReferenceSplit]]:
    """person_id and the two sides of each person with enough distinct photos of a face, one person in memory at a time.

    person_id: "000" and on, the position among all people of the split: no name leaves this function.
    references: how many exactly. held_out: how many at most, at least one.
    """
    for person_id, entries in _entries_by_id(people, split).items():
        photos, hashes = _usable_photos(people, entries, references + held_out)
        if len(photos) > references:
            split_photos = split_references(person_id, photos, hashes, references=references, held_out=held_out)
            check_disjoint(split_photos)
            yield person_id, split_photos


def attributes_by_id(people: PhotoDataset, split: str) -> dict[str, dict[str, bool]]:
    """What the captions of the people list say of each person of the split, by person_id; {} of whom they say nothing."""
    entries = _entries_by_id(people, split)
    return attributes_of_people((person_id, entry.captions) for person_id, rows in entries.items() for entry in rows)


def person_attributes(listed: PersonAttributes, person_id: str, crops: Sequence[Pixels]) -> dict[str, bool]:
    """What the people list says of a person; where it says nothing of anybody, what the package's classifier reads in crops."""
    return listed[person_id] if any(listed.values()) else attributes_of_crops(crops, load_face_attributes())


def _entries_by_id(people: PhotoDataset, split: str) -> dict[str, list[ManifestEntry]]:
    by_person: dict[str, list[ManifestEntry]] = {}
    for entry in people.entries(split):
        by_person.setdefault(entry.person, []).append(entry)
    return {f"{index:03}": entries for index, entries in enumerate(by_person.values())}


def face_crop(photo: Photo) -> Pixels:
    """The aligned face crop, (128, 128, 3)."""
    assert photo.face is not None  # open_with_central_face gives no photo without one
    return crop_face(photo.pixels, photo.face)


def pair_with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item]]:
    """Each item with the next one, the last with the first; a single one with itself. At most three are in memory."""
    rest = iter(items)
    for first in rest:
        current = first
        for following in rest:
            yield current, following
            current = following
        yield current, first


def check_disjoint(split_photos: ReferenceSplit) -> None:
    """Raises DataError if a held-out photo is a reference, by its bytes or as a near duplicate: every result depends on it."""
    if _overlap(split_photos.references, split_photos.held_out):
        raise DataError("a held-out photo is also a reference", "the two must not meet", "Split the photos again")


def check_impostors(impostors: Sequence[Photo], split_photos: ReferenceSplit) -> None:
    """Raises DataError if an impostor's photo is one of the person's own."""
    if _overlap(impostors, (*split_photos.references, *split_photos.held_out)):
        found, needed = "a photo of two people of the split is the same", "an impostor photo must be another person's"
        raise DataError(found, needed, "Mend the data set's names")


def _overlap(first: Sequence[Photo], second: Sequence[Photo]) -> bool:
    """Whether a photo of one side is one of the other, or a near duplicate."""
    hashes, other_hashes = ([near_duplicate_hash(face_crop(photo)) for photo in side] for side in (first, second))
    same_file = bool({photo.digest for photo in first} & {photo.digest for photo in second})
    return same_file or any(hash_distance(a, b) <= NEAR_DUPLICATE_BITS for a, b in product(hashes, other_hashes))


def _usable_photos(people: PhotoDataset, entries: Sequence[ManifestEntry], max_photos: int) -> tuple[list[Photo], list[int]]:
    """The first distinct photos with a face, at most `max_photos`, and their hashes: some people have hundreds."""
    photos: list[Photo] = []
    hashes: list[int] = []
    for entry in entries:
        photo = people.open_with_central_face(entry)
        if photo is None:
            continue
        digests, value = [*(kept.digest for kept in photos), photo.digest], near_duplicate_hash(face_crop(photo))
        if len(deduplicate(digests, [*hashes, value])) == len(digests):
            photos.append(photo)
            hashes.append(value)
        if len(photos) == max_photos:
            break
    return photos, hashes
