"""Who is judged on what: the references and held-out photos of each person of a split, which never meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import Photo, Pixels
from tenth.data.face_crops import People
from tenth.data.faces import NEAR_DUPLICATE_BITS, crop_face, hash_distance, near_duplicate_hash
from tenth.data.manifest import Row
from tenth.data.splits import Parted, distinct, references_and_held_out

Rows = npt.NDArray[np.float64]
Thing = TypeVar("Thing")


@dataclass(frozen=True, eq=False)
class Judged:
    """One person's real photos as each recogniser sees them: rows (K, D) by recogniser. crops: the references, to look at."""

    number: str
    crops: tuple[Pixels, ...]
    references: tuple[Rows, ...]
    held_out: tuple[Rows, ...]

    def seen(self) -> bool:
        """Whether every recogniser finds a face on both sides."""
        return not any(np.isnan(rows).any(1).all() for rows in (*self.references, *self.held_out))


def part_people(people: People, split: str, *, references: int, held_out: int) -> Iterator[tuple[str, Parted[Photo]]]:
    """A number and the two sides of each person with enough distinct photos of a face, one person in memory at a time.

    The number, "000" and on, is the place among all people of the split: no name leaves this function.
    references: how many exactly. held_out: how many at most, at least one.
    """
    by_person: dict[str, list[Row]] = {}
    for row in people.rows(split):
        by_person.setdefault(row.person, []).append(row)
    for place, rows in enumerate(by_person.values()):
        number = f"{place:03}"
        photos, hashes = _located(people, rows, references + held_out)
        if len(photos) > references:
            parted = references_and_held_out(number, photos, hashes, references=references, held_out=held_out)
            check_apart(parted)
            yield number, parted


def crop_of(photo: Photo) -> Pixels:
    """The face as the pocket model draws faces, (128, 128, 3)."""
    assert photo.face is not None  # People.located gives no photo without one
    return crop_face(photo.pixels, photo.face)


def with_next(things: Iterable[Thing]) -> Iterator[tuple[Thing, Thing]]:
    """Each thing with the one after it, the last with the first; one alone with itself. Three are in memory at a time."""
    rest = iter(things)
    for first in rest:
        current = first
        for following in rest:
            yield current, following
            current = following
        yield current, first


def check_apart(parted: Parted[Photo]) -> None:
    """Raises DataError if a held-out photo is a reference, by its bytes or by its looks: every result hangs on that."""
    if _meet(parted.references, parted.held_out):
        raise DataError("a held-out photo is also a reference", "the two must not meet", "Split the photos again")


def check_strangers(strangers: Sequence[Photo], parted: Parted[Photo]) -> None:
    """Raises DataError if a photo given as another person's is one of the person's own, on either side."""
    if _meet(strangers, (*parted.references, *parted.held_out)):
        raise DataError(
            "a photo of two people of the split is the same", "a wrong photo must be a stranger's", "Mend the data set's names"
        )


def _meet(one: Sequence[Photo], other: Sequence[Photo]) -> bool:
    sides = [[(photo.digest, near_duplicate_hash(crop_of(photo))) for photo in side] for side in (one, other)]
    return any(
        digest == another or hash_distance(given, new) <= NEAR_DUPLICATE_BITS
        for digest, given in sides[0]
        for another, new in sides[1]
    )


def _located(people: People, rows: Sequence[Row], enough: int) -> tuple[list[Photo], list[int]]:
    """Distinct photos with a face and their hashes, in the file's order, until there are enough: some people have hundreds."""
    photos: list[Photo] = []
    hashes: list[int] = []
    for row in rows:
        photo = people.located(row)
        if photo is None:
            continue
        digests, value = [*(kept.digest for kept in photos), photo.digest], near_duplicate_hash(crop_of(photo))
        if len(distinct(digests, [*hashes, value])) == len(digests):
            photos.append(photo)
            hashes.append(value)
        if len(photos) == enough:
            break
    return photos, hashes
