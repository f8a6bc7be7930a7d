"""A folder of photos -> a Person, or a verdict on every entry of the folder."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tenth.data.faces import (
    NEAR_DUPLICATE_BITS,
    crop_face,
    face_pixels,
    find_faces,
    hash_distance,
    near_duplicate_hash,
    sharpness,
)
from tenth.data.photo import open_photo
from tenth.errors import DataError, PhotoError
from tenth.types import Face, Person, Photo
from tenth.wording import few

FACE_PIXELS = 40  # width of the smallest usable face, in pixels of the file's picture
HOPELESS, SOFT = 6.0, 20.0  # sharpness: refused below the first, warned of below the second; see faces.sharpness
MARGIN = 2  # face widths kept on every side; whatever crops the face later sees what it would see in the whole photo
SAME_PERSON = 0.6  # dlib's distance between two photos under which they show one person

Describe = Callable[[Photo], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of one entry of a folder. code: a short stable word, 'ok' where accepted. reason: a sentence, '' where ok.

    warnings: sentences about an accepted photo. photo: cut to the face and its surroundings; None where not accepted.
    """

    file: str
    accepted: bool
    code: str
    reason: str = ""
    warnings: tuple[str, ...] = ()
    photo: Photo | None = None


def read_person(folder: Path, *, describe: Describe, same_person: float = SAME_PERSON, name: str | None = None) -> Person:
    """The accepted photos of a folder, in file-name order. name: the folder's, unless given.

    describe, same_person: as for `examine`. Raises DataError where there is no folder or no usable photo in it.
    """
    verdicts = examine(folder, describe=describe, same_person=same_person)
    photos = tuple(verdict.photo for verdict in verdicts if verdict.photo is not None)
    name = name or folder.resolve().name
    if not photos:
        wrong = few((f"{_printable(verdict.file)}: {verdict.reason}" for verdict in verdicts), between=" | ")
        found = f"{name} has no usable photo ({wrong or 'the folder is empty'})"
        raise DataError(
            found, "a sharp photo of one face is needed", "Add photos; `tenth photos DIR` says what is wrong with each"
        )
    return Person(name, photos)


def examine(folder: Path, *, describe: Describe, same_person: float = SAME_PERSON) -> list[Verdict]:
    """A verdict on every entry of the folder, hidden files and folders included, in file-name order ('2' before '10').

    describe: photo with its face -> dlib's descriptor (128,). same_person: Euclidean distance under which two of them show one
    person. Codes: ok, hidden, those of `open_photo`, no-face, small-face, blurred, duplicate, other-person.
    Raises DataError if there is no such folder.
    """
    verdicts = [_look(path) for path in tqdm(_entries(folder), desc="photos", file=sys.stderr, delay=2, disable=None)]
    return _without_strangers(_without_duplicates(verdicts), describe, same_person)


def verdicts_to_json(verdicts: Sequence[Verdict]) -> dict[str, list[dict[str, Any]]]:
    """What `tenth photos --json` prints: {"photos": [{"file", "accepted", "code", "reason", "warnings"}]}."""
    keys = ("file", "accepted", "code", "reason", "warnings")
    rows = [{key: getattr(verdict, key) for key in keys} for verdict in verdicts]
    return {"photos": [row | {"warnings": list(row["warnings"])} for row in rows]}


def verdicts_to_table(verdicts: Sequence[Verdict]) -> str:
    """What `tenth photos` prints: a line per entry, its warnings below it, and the count."""
    width = max((len(_printable(verdict.file)) for verdict in verdicts), default=0)
    lines = [line for verdict in verdicts for line in _lines(verdict, width)]
    return "\n".join([*lines, f"{sum(verdict.accepted for verdict in verdicts)} of {len(verdicts)} accepted"])


def _lines(verdict: Verdict, width: int) -> Iterator[str]:
    sentence = "" if verdict.accepted else f"{verdict.code}: {_printable(verdict.reason)}"
    yield f"{_printable(verdict.file):<{width}}  {'yes' if verdict.accepted else 'no '}  {sentence}".rstrip()
    yield from (f"{'':<{width}}       warning: {_printable(warning)}" for warning in verdict.warnings)


def _printable(text: str) -> str:
    # A file's name may hold anything, also what moves the cursor of a terminal.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _entries(folder: Path) -> list[Path]:
    action = "Give a folder with photos of one person"
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_order(path.name))
    except FileNotFoundError as error:
        raise DataError(f"{folder} does not exist", "a folder of photos is needed", action) from error
    except NotADirectoryError as error:
        raise DataError(f"{folder} is a file", "a folder of photos is needed", action) from error
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})", "a readable folder is needed", action) from error


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Key that sorts names as people do: case aside, 'IMG_2' before 'IMG_10'."""
    parts: list[str | int] = list(re.split(r"(\d+)", name.casefold()))
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts, name


def _look(path: Path) -> Verdict:
    """The verdict on one entry by itself."""
    if path.name.startswith("."):
        return Verdict(path.name, False, "hidden", "hidden files are not looked at; rename it if it is a photo")
    try:
        photo = open_photo(path)
    except PhotoError as error:
        return Verdict(path.name, False, error.code, str(error))
    faces = find_faces(photo.pixels)
    if not faces:
        return Verdict(path.name, False, "no-face", "no face was found; use a photo where the face is larger, in front and lit")
    # In a photo that open_photo reduced, a face that is found at all is far larger: these are pixels of the file's picture.
    if (width := face_pixels(faces[0])) < FACE_PIXELS:
        reason = f"the face is {width} pixels wide and {FACE_PIXELS} are needed; use a closer or larger photo"
        return Verdict(path.name, False, "small-face", reason)
    if (sharp := sharpness(crop_face(photo.pixels, faces[0]))) < HOPELESS:
        return Verdict(path.name, False, "blurred", "the face is blurred; use a sharper photo")
    warnings = []
    if len(faces) > 1:
        warnings.append(f"{len(faces)} faces were found and the largest is taken; crop the photo if that is somebody else")
    if sharp < SOFT:
        warnings.append("the face is a little blurred or very dark; a sharper photo gives better pictures")
    return Verdict(path.name, True, "ok", warnings=tuple(warnings), photo=_cut(photo, faces[0]))


def _cut(photo: Photo, face: Face) -> Photo:
    """The photo cut to MARGIN face widths around the face, so that a hundred photos fit in memory."""
    left, top, right, bottom = face.box
    margin = MARGIN * face_pixels(face)
    # Even offsets: crop_face rounds landmarks half to even, and so gives the same crop before and after.
    x, y = (max(0, edge - margin) // 2 * 2 for edge in (left, top))
    pixels = photo.pixels[y : bottom + margin + 1, x : right + margin + 1].copy()
    return replace(photo, pixels=pixels, face=Face((left - x, top - y, right - x, bottom - y), face.landmarks - (x, y)))


def _without_duplicates(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Refuse each accepted photo that is the same file, or shows the same picture, as an earlier one."""
    kept: list[tuple[Verdict, int]] = []
    judged = []
    for verdict in verdicts:
        photo = verdict.photo
        if photo is not None and photo.face is not None:
            code = near_duplicate_hash(crop_face(photo.pixels, photo.face))
            if earlier := next(
                (early.file for early, other in kept if hash_distance(code, other) <= NEAR_DUPLICATE_BITS), None
            ):
                reason = f"it shows the same picture as {earlier}; remove one of the two"
                judged.append(Verdict(verdict.file, False, "duplicate", reason))
                continue
            kept.append((verdict, code))
        judged.append(verdict)
    return judged


def _without_strangers(verdicts: Sequence[Verdict], describe: Describe, same_person: float) -> list[Verdict]:
    """Refuse photos of somebody else where most agree on who the person is; warn of all where nobody can tell."""
    judged = list(verdicts)
    places = [place for place, verdict in enumerate(judged) if verdict.photo is not None]
    rows = np.array([describe(photo) for verdict in judged if (photo := verdict.photo) is not None])  # (K, 128)
    strangers = other_people(rows, same_person)
    if strangers is None:
        for place in places:
            warning = "the photos seem to show different people, and which is meant cannot be told; keep those of one person"
            judged[place] = replace(judged[place], warnings=(*judged[place].warnings, warning))
        return judged
    for place in (places[stranger] for stranger in strangers):
        reason = "the face seems to be somebody else's than in the other photos; remove it, or crop it to the person meant"
        judged[place] = Verdict(judged[place].file, False, "other-person", reason)
    return judged


def other_people(rows: npt.NDArray[Any], same_person: float) -> list[int] | None:
    """Which descriptors (K, 128) are of somebody else than most: at least same_person from more than half of the others.

    None where they disagree and most cannot be told: two photos that differ, or no majority that agrees with itself.
    """
    count = len(rows)
    distances = np.zeros((count, count))  # (K, K)
    for one, other in combinations(range(count), 2):
        distances[one, other] = distances[other, one] = np.linalg.norm(rows[one] - rows[other])
    doubted = [k for k in range(count) if _median(distances[k], range(count), k) > same_person]
    if not doubted:
        return []
    most = [k for k in range(count) if k not in doubted]
    if count < 3 or 2 * len(most) <= count or any(_median(distances[k], most, k) > same_person for k in most):
        return None
    return [k for k in doubted if _median(distances[k], most, k) > same_person]


def _median(distances: npt.NDArray[np.float64], to: Sequence[int], own: int) -> float:
    # The lower median: of two people with two photos each nobody is in the majority, of three and two the three are.
    return statistics.median_low([float(distances[k]) for k in to if k != own] or [0.0])
