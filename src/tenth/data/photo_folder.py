"""Read a person from a folder of photos, with a verdict on every file in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tenth.core.cache import Array, ArrayCache, default_cache_dir
from tenth.core.errors import DataError, PhotoError
from tenth.core.run_record import num_cores
from tenth.core.types import Face, Person, Photo, Pixels
from tenth.core.wording import abbreviate, pluralize, printable
from tenth.data.captions.sidecar_files import find_caption_files
from tenth.data.faces.descriptors import FaceDescriptor, cached_face_descriptor
from tenth.data.faces.detection import NEAR_DUPLICATE_BITS, crop_face, face_width, hash_distance, near_duplicate_hash, sharpness
from tenth.data.faces.majority_person import MajorityPerson, find_majority_person
from tenth.data.faces.multiscale import open_photo_with_faces
from tenth.data.photo_sources import folder_entries, person_name, photo_entries

MIN_FACE_PIXELS = 40  # width of the smallest usable face, in pixels of the photo (of at most 12 megapixels)
MIN_DETECTED_PIXELS = 36  # the detector's width of such a face: it scales in steps of a fifth
MIN_SHARPNESS, WARN_SHARPNESS = 6.0, 20.0  # refused below the first, a warning below the second; see detection.sharpness
MAX_THREADS = 4  # a photo each, so that few are in memory; more than cores, as dlib's descriptor keeps the others from going on
CROP_MARGIN = 2  # face widths kept on every side: enough for every later crop of the face
SAME_PERSON = 0.6  # distance of two dlib descriptors below which they are of one person
UNDECIDED_SENTENCE = (
    "the photos show different people, nobody clearly more often, and which is meant cannot be told; keep those of one person"
)
OTHER_PERSON_SENTENCE = (
    "the face seems to be somebody else's than in the other photos; remove it, or crop it to the person meant"
)
UNDECIDED, OTHER_PERSON, CAPTION = "several-people", "other-person", "caption"  # codes
FaceFractions = tuple[float, float, float, float]
NOT_PHOTO_CODES = ("not-a-photo", "empty", "folder", "hidden")  # codes of entries that are no photo at all


@dataclass(frozen=True, eq=False)
class PhotoVerdict:
    """The verdict on one entry of a folder. code: a short stable word, 'ok' if accepted. reason: a sentence, '' if accepted.

    warnings: sentences about an accepted photo. photo: cropped to the face and its surroundings; None if not accepted.
    face: left, top, right, bottom of the face that was looked at, as fractions of the upright photo; None if none was found.
    """

    file: str
    accepted: bool
    code: str
    reason: str = ""
    warnings: tuple[str, ...] = ()
    photo: Photo | None = None
    face: FaceFractions | None = None


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A usable photo, its usable faces, the largest first, with their crops and descriptors, and the number of all its faces.

    The faces are in pixels of the whole photo; a photo of one usable face is cropped to it, and has it as `photo.face`.
    places: the faces again, as fractions of the whole photo.
    """

    photo: Photo
    faces: tuple[Face, ...]
    crops: tuple[Pixels, ...]
    descriptors: Array  # (faces, 128)
    num_faces: int
    places: tuple[FaceFractions, ...]


def read_person(*sources: str | Path, descriptor: FaceDescriptor | None = None) -> Person:
    """The accepted photos of a folder, or of files and folders, in file-name order, as a person of the first one's name.

    descriptor: as for `inspect_photos`. Raises DataError as that, or if there is no usable photo.
    """
    paths = [Path(source) for source in sources]
    return to_person(inspect_photos(paths, descriptor=descriptor), person_name(paths))


def to_person(verdicts: Sequence[PhotoVerdict], name: str) -> Person:
    """The person of the accepted photos. Raises DataError, with the first reasons, if no photo was accepted."""
    photos = tuple(verdict.photo for verdict in verdicts if verdict.photo is not None)
    if photos:
        return Person(name, photos)
    if any(verdict.code == UNDECIDED for verdict in verdicts):
        found = f"{name} shows different people, nobody clearly more often, and which one is meant cannot be told"
        raise DataError(found, "one person who is in more photos than any other is needed", "Remove or crop the others' photos")
    refused = (f"{printable(verdict.file)}: {verdict.reason}" for verdict in verdicts if verdict.code != CAPTION)
    found = f"{name} has no usable photo ({abbreviate(refused, separator=' | ') or 'the folder is empty'})"
    raise DataError(found, "a sharp photo of one face is needed", "Add photos; `tenth photos DIR` says what is wrong with each")


def inspect_folder(folder: str | Path, *, descriptor: FaceDescriptor | None = None) -> list[PhotoVerdict]:
    """As `inspect_photos`, of one folder. Raises DataError if there is no such folder."""
    entries = folder_entries(Path(folder), "a folder of photos is needed", "Give a folder with photos of one person")
    return inspect_entries({path: path.name for path in entries}, descriptor)


def inspect_photos(sources: Sequence[Path], *, descriptor: FaceDescriptor | None = None) -> list[PhotoVerdict]:
    """A verdict on every file and every entry of the folders, hidden ones included, in file-name order ('2' before '10').

    If a photo has several faces, the face of the person in most photos is used (faces/majority_person.py); a warning at the
    first such photo says so. descriptor: photo with its face -> dlib's descriptor (128,). Codes: ok, hidden, caption, those of
    `open_photo`, no-face, small-face, blurred, duplicate, other-person, several-people. Raises DataError as `photo_entries`.
    """
    return inspect_entries(photo_entries(sources), descriptor)


def inspect_entries(entries: Mapping[Path, str], descriptor: FaceDescriptor | None = None) -> list[PhotoVerdict]:
    """As `inspect_photos`, a verdict on each of the paths, in their order. entries: what each is called."""
    inspect = partial(_inspect_photo, descriptor or cached_face_descriptor(ArrayCache(default_cache_dir())))
    with ThreadPoolExecutor(min(MAX_THREADS, 2 * num_cores())) as pool:
        inspected = pool.map(inspect, entries, entries.values())
        results = list(tqdm(inspected, "photos", len(entries), file=sys.stderr, delay=2, disable=None))
    return _keep_one_person(_reject_duplicates(_mark_captions(list(entries), results)))


def verdicts_to_json(verdicts: Sequence[PhotoVerdict]) -> dict[str, list[dict[str, Any]]]:
    """The output of `tenth photos --json`: {"photos": [{"file", "accepted", "code", "reason", "warnings"}]}."""
    keys = ("file", "accepted", "code", "reason", "warnings")
    return {"photos": [{key: getattr(verdict, key) for key in keys} for verdict in verdicts]}


def verdicts_to_table(verdicts: Sequence[PhotoVerdict]) -> str:
    """The output of `tenth photos`: a line per entry, its warnings below it, and the count."""
    width = max((len(printable(verdict.file)) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        sentence = "yes" if verdict.accepted else f"no   {verdict.code}: {printable(verdict.reason)}"
        lines.append(f"{printable(verdict.file):<{width}}  {sentence}".rstrip())
        lines += [f"{'':<{width}}       warning: {printable(warning)}" for warning in verdict.warnings]
    photos = sum(verdict.code != CAPTION for verdict in verdicts)
    return "\n".join([*lines, f"{sum(verdict.accepted for verdict in verdicts)} of {photos} accepted"])


def _inspect_photo(descriptor: FaceDescriptor, path: Path, name: str) -> PhotoVerdict | _Candidate:
    """The verdict on one entry, called by this name, or a candidate that still has to be compared with the others."""
    if path.name.startswith("."):
        return PhotoVerdict(name, False, "hidden", "hidden files are not looked at; rename it if it is a photo")

    # It opens, and a face is found.
    try:
        photo, faces = open_photo_with_faces(path)
        photo = replace(photo, file=name)
    except PhotoError as error:
        return PhotoVerdict(name, False, error.code, str(error))
    if not faces:
        sentence = "no face was found; use a photo where the face is larger, in front and lit"
        return PhotoVerdict(name, False, "no-face", sentence)

    # The face is large and sharp enough.
    large = [face for face in faces if face_width(face) >= MIN_DETECTED_PIXELS]
    if not large:
        found = f"the face is {face_width(faces[0])} pixels wide and {MIN_FACE_PIXELS} are needed"
        reason = f"{found}; use a closer or larger photo"
        return PhotoVerdict(name, False, "small-face", reason, face=_fractions(faces[0], photo))
    crops = {face: crop_face(photo.pixels, face) for face in large}
    sharp = [face for face in large if sharpness(crops[face]) >= MIN_SHARPNESS]
    if not sharp:
        return PhotoVerdict(
            name, False, "blurred", "the face is blurred; use a sharper photo", face=_fractions(large[0], photo)
        )

    # With several faces the whole photo is kept until one is chosen.
    places = tuple(_fractions(face, photo) for face in sharp)
    if len(sharp) == 1:
        photo = _crop_around_face(photo, sharp[0])
    descriptors = np.stack([descriptor(photo if photo.face else replace(photo, face=face)) for face in sharp])
    return _Candidate(photo, tuple(sharp), tuple(crops[face] for face in sharp), descriptors, len(faces), places)


def _mark_captions(entries: Sequence[Path], results: Sequence[PhotoVerdict | _Candidate]) -> list[PhotoVerdict | _Candidate]:
    """Give caption files, which lie beside a photo, a code of their own instead of that of an unusable photo."""
    by_path = dict(zip(entries, results, strict=True))
    texts = {path for path, it in by_path.items() if isinstance(it, PhotoVerdict) and it.code in NOT_PHOTO_CODES}
    beside = find_caption_files([path for path in entries if path not in texts], texts)
    for path, photo in ((path, photo) for photo, captions in beside.items() for path in captions):
        sentence = f"the caption of {photo.name}; captions are for training"
        verdict = by_path[path]
        if isinstance(verdict, PhotoVerdict):
            by_path[path] = replace(verdict, code=CAPTION, reason=sentence)
    return list(by_path.values())


def _crop_around_face(photo: Photo, face: Face) -> Photo:
    """The photo cropped to CROP_MARGIN face widths around the face, so that a hundred photos fit in memory."""
    left, top, right, bottom = face.box
    margin = CROP_MARGIN * face_width(face)
    # Even offsets: crop_face rounds landmarks half to even, and so gives the same crop before and after.
    x, y = (max(0, edge - margin) // 2 * 2 for edge in (left, top))
    pixels = photo.pixels[y : bottom + margin + 1, x : right + margin + 1].copy()
    return replace(photo, pixels=pixels, face=Face((left - x, top - y, right - x, bottom - y), face.landmarks - (x, y)))


def _fractions(face: Face, photo: Photo) -> FaceFractions:
    """Where a face is in a photo of any size. A box that the detector drew beyond the edge ends there."""
    height, width = photo.pixels.shape[:2]
    left, top, right, bottom = (
        min(1.0, max(0.0, edge / side)) for edge, side in zip(face.box, (width, height) * 2, strict=True)
    )
    return left, top, right, bottom


def _reject_duplicates(results: Sequence[PhotoVerdict | _Candidate]) -> list[PhotoVerdict | _Candidate]:
    """Refuse each photo that is a duplicate or near-duplicate of an earlier one."""
    kept: list[tuple[str, int]] = []
    checked: list[PhotoVerdict | _Candidate] = []
    for result in results:
        if isinstance(result, _Candidate):
            code = near_duplicate_hash(result.crops[0])
            if earlier := next((file for file, other in kept if hash_distance(code, other) <= NEAR_DUPLICATE_BITS), None):
                sentence = f"it shows the same picture as {earlier}; remove one of the two"
                checked.append(PhotoVerdict(result.photo.file, False, "duplicate", sentence, face=result.places[0]))
                continue
            kept.append((result.photo.file, code))
        checked.append(result)
    return checked


def _keep_one_person(results: Sequence[PhotoVerdict | _Candidate]) -> list[PhotoVerdict]:
    """Choose the face of the person who is in most photos and refuse photos without it; refuse all if nobody can tell."""
    # Whose face, from the descriptors of all faces.
    candidates = [result for result in results if isinstance(result, _Candidate)]
    descriptors = [each.descriptors for each in candidates]
    chosen = find_majority_person(descriptors, SAME_PERSON) if candidates else MajorityPerson((), 0, 0)  # of (faces, 128) each

    # The verdicts, in the order of the entries; the note on several faces goes to the first photo that it concerns.
    face_indices, note = iter(chosen.face_indices if chosen else ()), _multiple_faces_note(candidates, chosen)
    verdicts = []
    for result in results:
        if isinstance(result, PhotoVerdict):
            verdicts.append(result)
        elif chosen is None:
            verdicts.append(PhotoVerdict(result.photo.file, False, UNDECIDED, UNDECIDED_SENTENCE, face=result.places[0]))
        elif (face_index := next(face_indices)) is None:
            verdicts.append(PhotoVerdict(result.photo.file, False, OTHER_PERSON, OTHER_PERSON_SENTENCE, face=result.places[0]))
        else:
            warnings = [note] if note and result.num_faces > 1 else []
            note = note if not warnings else ""
            verdicts.append(_accept(result, face_index, warnings))
    return verdicts


def _accept(candidate: _Candidate, face_index: int, warnings: list[str]) -> PhotoVerdict:
    face = candidate.faces[face_index]
    if sharpness(candidate.crops[face_index]) < WARN_SHARPNESS:
        warnings.append("the face is a little blurred or very dark; a sharper photo gives better pictures")
    photo = candidate.photo if candidate.photo.face is not None else _crop_around_face(candidate.photo, face)
    place = candidate.places[face_index]
    return PhotoVerdict(photo.file, True, "ok", warnings=tuple(warnings), photo=photo, face=place)


def _multiple_faces_note(candidates: Sequence[_Candidate], chosen: MajorityPerson | None) -> str:
    """A sentence for the whole folder that says whose face is used; '' if every photo has one face."""
    num_multiple = sum(candidate.num_faces > 1 for candidate in candidates)
    if not num_multiple or chosen is None:
        return ""
    if len(candidates) == 1:
        return f"{candidates[0].num_faces} faces were found and the largest is taken; crop the photo if that is somebody else"
    rival = f" (the next is in {chosen.num_rival_photos})" if chosen.num_rival_photos else ""
    people = f"the person in {chosen.num_photos} of {len(candidates)} photos{rival}"
    if num_smaller := sum(bool(index) for index in chosen.face_indices):
        people += f", though {pluralize(num_smaller, 'photo has', 'photos have')} a larger face beside"
    return f"{num_multiple} photos show several faces; taken is {people}; crop the photos if that is somebody else"
