"""A photo with its faces, looked at again at higher resolution where nothing is found at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tenth.core.types import Face, Photo, Pixels
from tenth.data.faces.detection import DETECTION_SIZE, Detection, detect_faces, face_width, find_faces
from tenth.data.photo import MAX_PHOTO_SIDE, open_photo

RETRY_PIXELS = 4096  # longest side of the picture that is looked at again: all that a photo of 12 megapixels has
UPSCALE = 2  # the detector's window has 80 pixels, the smallest usable face 40
MIN_SCALE_GAIN = 1.25  # times larger than the copy that was looked at before
MIN_SCORE = (
    0.5  # the detector's score. A hundred times as many windows bring chance faces; of 40 real ones of LFW, 40 pixels wide
)
# in noise, none scores below 0.63, and of nine drawn ones none below 1
TILE_SIZE, TILE_OVERLAP = 2400, 320  # pixels of what is looked at at once; the look before has found all faces of 160 pixels


def open_photo_with_faces(path: Path) -> tuple[Photo, list[Face]]:
    """A photo and its faces, the largest first, in pixels of that photo. Raises PhotoError.

    Mostly as `open_photo` and `find_faces` give them. Where that is no face, the photo is looked at in its own size, then
    twice as large, and comes with up to RETRY_PIXELS if they were needed: a face 40 pixels wide is found in 12 megapixels.
    """
    photo = open_photo(path)
    faces = find_faces(photo.pixels)
    if faces:
        return photo, faces
    reduced = max(photo.pixels.shape) >= MAX_PHOTO_SIDE - 1
    if faces := _detect_at_scales(photo.pixels, (1,) if reduced else (1, UPSCALE)):
        return photo, faces
    if reduced:
        photo = open_photo(path, RETRY_PIXELS)
        faces = _detect_at_scales(photo.pixels, (1, UPSCALE))
    return photo, faces


def _detect_at_scales(pixels: Pixels, scales: tuple[int, ...]) -> list[Face]:
    for scale in scales:
        if max(pixels.shape) * scale > MIN_SCALE_GAIN * DETECTION_SIZE:
            detections = [each for each in _detect_in_tiles(pixels, scale) if each.score >= MIN_SCORE]
            if faces := _suppress_overlaps(detections):
                return sorted(faces, key=lambda face: (-face_width(face), face.box))
    return []


def _detect_in_tiles(pixels: Pixels, scale: int) -> Iterator[Detection]:
    """Faces of overlapping tiles, so that memory does not grow with the photo; one may come several times."""
    height, width = pixels.shape[:2]
    step, size = TILE_SIZE // scale, (TILE_SIZE + TILE_OVERLAP) // scale
    for top in range(0, max(1, height - TILE_OVERLAP // scale), step):
        for left in range(0, max(1, width - TILE_OVERLAP // scale), step):
            for detection in detect_faces(pixels[top : top + size, left : left + size], scale):
                x0, y0, x1, y1 = detection.face.box
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                yield Detection(Face(box, np.add(detection.face.landmarks, (left, top))), detection.score)


def _suppress_overlaps(detections: list[Detection]) -> list[Face]:
    """Of faces whose middles lie in one another's boxes, the one the detector is surest of."""
    kept: list[Face] = []
    for detection in sorted(detections, key=lambda each: -each.score):
        if not any(_inside(detection.face, other) or _inside(other, detection.face) for other in kept):
            kept.append(detection.face)
    return kept


def _inside(face: Face, other: Face) -> bool:
    middle = np.array(face.box).reshape(2, 2).mean(0)
    return bool((middle >= other.box[:2]).all() and (middle <= other.box[2:]).all())
