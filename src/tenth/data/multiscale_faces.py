"""A photo with its faces, looked at again at higher resolution where nothing is found at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tenth.core.types import Face, Photo, Pixels
from tenth.data.faces import DETECTION_PIXELS, Detected, detect, face_pixels, find_faces
from tenth.data.photo import PHOTO_PIXELS, open_photo

CLOSER_PIXELS = 4096  # longest side of the picture that is looked at again: all that a photo of 12 megapixels has
ENLARGED = 2  # the detector's window has 80 pixels, the smallest usable face 40
WORTH_IT = 1.25  # times larger than the copy that was looked at before
SURE = 0.5  # the detector's score. A hundred times as many windows bring chance faces; of 40 real ones of LFW, 40 pixels wide
# in noise, none scores below 0.63, and of nine drawn ones none below 1
TILE, OVERLAP = 2400, 320  # pixels of what is looked at at once; the look before has found all faces of 160 pixels


def photo_with_faces(path: Path) -> tuple[Photo, list[Face]]:
    """A photo and its faces, the largest first, in pixels of that photo. Raises PhotoError.

    Mostly as `open_photo` and `find_faces` give them. Where that is no face, the photo is looked at in its own size, then
    twice as large, and comes with up to CLOSER_PIXELS if they were needed: a face 40 pixels wide is found in 12 megapixels.
    """
    photo = open_photo(path)
    faces = find_faces(photo.pixels)
    if faces:
        return photo, faces
    reduced = max(photo.pixels.shape) >= PHOTO_PIXELS - 1
    if faces := _look(photo.pixels, (1,) if reduced else (1, ENLARGED)):
        return photo, faces
    if reduced:
        photo = open_photo(path, CLOSER_PIXELS)
        faces = _look(photo.pixels, (1, ENLARGED))
    return photo, faces


def _look(pixels: Pixels, scales: tuple[int, ...]) -> list[Face]:
    for scale in scales:
        if max(pixels.shape) * scale > WORTH_IT * DETECTION_PIXELS:
            found = [each for each in _in_tiles(pixels, scale) if each.score >= SURE]
            if faces := _distinct(found):
                return sorted(faces, key=lambda face: (-face_pixels(face), face.box))
    return []


def _in_tiles(pixels: Pixels, scale: int) -> Iterator[Detected]:
    """Faces of overlapping tiles, so that memory does not grow with the photo; one may come several times."""
    height, width = pixels.shape[:2]
    step, side = TILE // scale, (TILE + OVERLAP) // scale
    for top in range(0, max(1, height - OVERLAP // scale), step):
        for left in range(0, max(1, width - OVERLAP // scale), step):
            for found in detect(pixels[top : top + side, left : left + side], scale):
                x0, y0, x1, y1 = found.face.box
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                yield Detected(Face(box, np.add(found.face.landmarks, (left, top))), found.score)


def _distinct(found: list[Detected]) -> list[Face]:
    """Of faces whose middles lie in one another's boxes, the one the detector is surest of."""
    kept: list[Face] = []
    for each in sorted(found, key=lambda each: -each.score):
        if not any(_inside(each.face, other) or _inside(other, each.face) for other in kept):
            kept.append(each.face)
    return kept


def _inside(face: Face, other: Face) -> bool:
    middle = np.array(face.box).reshape(2, 2).mean(0)
    return bool((middle >= other.box[:2]).all() and (middle <= other.box[2:]).all())
