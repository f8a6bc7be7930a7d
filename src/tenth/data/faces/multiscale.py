"""Detect faces in a photo, at higher resolutions if none is found at first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tenth.core.types import Face, Photo, Pixels
from tenth.data.faces.detection import DETECTION_SIZE, Detection, detect_faces, face_width, find_faces
from tenth.data.photo import MAX_PHOTO_SIDE, open_photo

RETRY_PIXELS = 4096  # longest side of the image that is searched again: that of a photo of 12 megapixels
UPSCALE = 2  # the detector's window has 80 pixels, the smallest usable face 40
MIN_SCALE_GAIN = 1.25  # over the copy that was searched before; else it is not worth it
# The detector's score: a hundred times as many windows give false positives. Of 40 faces of LFW, 40 pixels wide in noise, none
# scores below 0.63; of nine drawn faces none below 1.
MIN_SCORE = 0.5
TILE_SIZE, TILE_OVERLAP = 2400, 320  # pixels; faces of 160 pixels and more were found at first


def open_photo_with_faces(path: Path) -> tuple[Photo, list[Face]]:
    """A photo and its faces, the largest first, in pixels of that photo. Raises PhotoError.

    As from `open_photo` and `find_faces`. If there is no face, the photo is searched at its own size, then at twice that; a
    reduced photo is opened again with up to RETRY_PIXELS. So a face 40 pixels wide is found in 12 megapixels.
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
    """Faces in overlapping tiles, so that memory does not grow with the photo. A face may be found several times."""
    height, width = pixels.shape[:2]
    step, size = TILE_SIZE // scale, (TILE_SIZE + TILE_OVERLAP) // scale
    for top in range(0, max(1, height - TILE_OVERLAP // scale), step):
        for left in range(0, max(1, width - TILE_OVERLAP // scale), step):
            for detection in detect_faces(pixels[top : top + size, left : left + size], scale):
                x0, y0, x1, y1 = detection.face.box
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                yield Detection(Face(box, np.add(detection.face.landmarks, (left, top))), detection.score)


def _suppress_overlaps(detections: list[Detection]) -> list[Face]:
    """Of faces whose centres lie in each other's boxes, the one with the highest score."""
    kept: list[Face] = []
    for detection in sorted(detections, key=lambda each: -each.score):
        if not any(_inside(detection.face, other) or _inside(other, detection.face) for other in kept):
            kept.append(detection.face)
    return kept


def _inside(face: Face, other: Face) -> bool:
    center = np.array(face.box).reshape(2, 2).mean(0)
    return bool((center >= other.box[:2]).all() and (center <= other.box[2:]).all())
