"""Train, validation and test splits by the person's name alone; reference and held-out photos of a person."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tenth.core.errors import DataError
from tenth.core.types import Photo
from tenth.core.wording import pluralize
from tenth.data.faces.detection import NEAR_DUPLICATE_BITS, hash_distance

Split = Literal["train", "validation", "test", "reserved"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "reserved")
EVERYBODY = "all"  # in place of a split: people of each but `reserved`

# Each salt is the first of its series (tenth-0, tenth-1, ...) that splits LFW's 158 people with ten photos evenly.
FOLD_SALT = "tenth-445"  # folds of 53, 53 and 52 people; fold 0 is the test set
VALIDATION_SALT = "tenth-validation-19"  # 21 of the other 105: a fifth
FOLDS = 3
TEST_FOLD = 0
VALIDATION_ONE_IN = 5  # of those that are not in the test fold
MIN_EVALUATION_PHOTOS = 10  # nine references and the tenth
RESERVED_COUNTS = (8, 9)  # photos of a person; people with so many are reserved for an independent check


@dataclass(frozen=True)
class ReferenceSplit:
    """Disjoint reference and held-out photos of one person. `references[:3]` are the three of a nested series 1, 3, 5, 9."""

    references: tuple[Photo, ...]
    held_out: tuple[Photo, ...]


def fold_of(name: str) -> int:
    """0, 1 or 2, from the name alone."""
    return _hash_bucket(FOLD_SALT, name, FOLDS)


def split_of(name: str, count: int, test_fold: int = TEST_FOLD) -> Split:
    """The split of a person of LFW with `count` photos in the whole data set, counted before any photo is dropped.

    test_fold: which of the three folds is for testing; the model in the package was trained on all but TEST_FOLD.
    """
    if count in RESERVED_COUNTS:
        return "reserved"
    return "train" if count < MIN_EVALUATION_PHOTOS else split_by_name(name, test_fold)


def split_by_name(name: str, test_fold: int = TEST_FOLD) -> Split:
    """The split of a user's own person: a third for test; of the rest a fifth for validation; independent of photo counts.

    Photos and people may therefore be added without moving anybody.
    """
    if fold_of(name) == test_fold:
        return "test"
    return "validation" if _hash_bucket(VALIDATION_SALT, name, VALIDATION_ONE_IN) == 0 else "train"


def deduplicate(digests: Sequence[str], hashes: Sequence[int], max_distance: int = NEAR_DUPLICATE_BITS) -> list[int]:
    """Indices of photos that are no duplicate (by digest) or near-duplicate (by hash, in bits) of an earlier kept photo.

    No two of the kept photos are near-duplicates, so every split of them is disjoint.
    """
    kept: list[int] = []
    for index, (digest, value) in enumerate(zip(digests, hashes, strict=True)):
        if not any(digest == digests[other] or hash_distance(value, hashes[other]) <= max_distance for other in kept):
            kept.append(index)
    return kept


def split_references(
    name: str, photos: Sequence[Photo], hashes: Sequence[int], *, references: int = 9, held_out: int = 10
) -> ReferenceSplit:
    """Split one person's photos: the first `references`, then up to `held_out` others, at least one.

    photos: in file-name order. hashes: `near_duplicate_hash` of each photo.
    For a nested series call once with its largest number and slice: then all of it has the same held-out photos.
    Raises DataError if there are too few distinct photos.
    """
    kept = [photos[index] for index in deduplicate([photo.digest for photo in photos], hashes)]
    if len(kept) < references + 1:
        found, duplicates = f"{name} has {pluralize(len(kept), 'photo')}", len(photos) - len(kept)
        found += f" after {pluralize(duplicates, 'duplicate')}" if duplicates else ""
        needed = f"{references} references and a held-out photo are needed"
        raise DataError(found, needed, "Add photos, or lower references")
    return ReferenceSplit(tuple(kept[:references]), tuple(kept[references : references + held_out]))


def _hash_bucket(salt: str, name: str, num_buckets: int) -> int:
    # A file system may store a name composed or decomposed, and not always as valid Unicode.
    encoded = (salt + unicodedata.normalize("NFC", name)).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(encoded).digest(), "big") % num_buckets
