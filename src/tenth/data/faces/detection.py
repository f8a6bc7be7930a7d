"""Detect faces with dlib, crop them aligned by landmarks, and measure sharpness and near-duplicates."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import dlib
import numpy as np
from PIL import Image

from tenth.core.errors import ModelError
from tenth.core.types import Face, Pixels

DETECTOR_PATH = Path(__file__).with_name("frontal_face_detector.svm")  # as dlib saves it; Boost licence beside it
DETECTION_SIZE = 800  # pixels of the longer side of the searched copy: finds a face of 1/16 of the photo
CROP_SIZE = 128  # pixels a side of the pocket model's images
CROP_PADDING = 0.5  # of dlib's face template on each side: head and shoulders; LFW photos are scaled by 0.84
NEAR_DUPLICATE_BITS = 64  # of 512: copies resized, cropped, brightened or at JPEG quality 25 differ in at most 48


class Detector(Protocol):
    """Pixels (H, W, 3) -> faces, the largest first. dlib's is the default; OpenCV's YuNet is another."""

    def __call__(self, pixels: Pixels) -> list[Face]: ...


def face_model_path(name: str) -> Path:
    """Path of a file of `face-recognition-models`, found without running that package's code (which needs pkg_resources).

    Raises ModelError if the package is not installed.
    """
    spec = find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the package face-recognition-models is not installed",
            "the face detector's landmarks and the recognizer come with it",
            "Run `pip install face-recognition-models`",
        )
    return Path(spec.submodule_search_locations[0]) / "models" / name


_of_thread = threading.local()


def _thread_detector() -> Any:
    """This thread's dlib.get_frontal_face_detector(): a detector holds the image that it searches, and not the GIL."""
    if not hasattr(_of_thread, "detector"):
        # Its file opens in a millisecond; dlib's own function unpacks it for 0.3 s each time.
        _of_thread.detector = dlib.fhog_object_detector(str(DETECTOR_PATH))
    return _of_thread.detector


@cache
def _landmark_predictor() -> Any:
    # The 68-point predictor in the same folder is not for commercial use and is never opened.
    return dlib.shape_predictor(str(face_model_path("shape_predictor_5_face_landmarks.dat")))


@dataclass(frozen=True, eq=False)
class Detection:
    """A face and the detector's score: about 0 for false positives, 1 to 3 for frontal faces."""

    face: Face
    score: float


def find_faces(pixels: Pixels) -> list[Face]:
    """Faces of at least about 1/16 of the photo's longer side, the largest first.

    pixels: (H, W, 3) RGB. Searches a copy of DETECTION_SIZE, so the cost does not grow with the photo.
    Source: King 2009, JMLR 10 (dlib); Kazemi and Sullivan 2014 for the landmarks.
    """
    faces = [detection.face for detection in detect_faces(pixels, DETECTION_SIZE / max(pixels.shape[:2]))]
    return sorted(faces, key=lambda face: (-face_width(face), face.box))


def detect_faces(pixels: Pixels, scale: float) -> list[Detection]:
    """Faces found in a copy scaled by `scale`, in pixels of the original. The detector's window has 80 pixels of the copy."""
    predictor, resized = _landmark_predictor(), _resize(pixels, scale)
    boxes, scores, _ = _thread_detector().run(resized, 0)
    return [Detection(_face(predictor(resized, box), box, scale), score) for box, score in zip(boxes, scores, strict=True)]


def face_width(face: Face) -> int:
    """Width of the face's box in pixels of its photo."""
    return face.box[2] - face.box[0]


def crop_face(pixels: Pixels, face: Face, *, size: int = CROP_SIZE, padding: float = CROP_PADDING) -> Pixels:
    """The aligned face crop, (size, size, 3). Outside the photo its border is repeated.

    padding: on each side, as a fraction of dlib's face template. The recognizer needs size 150 and padding 0.25.
    """
    left, top, right, bottom = face.box
    margin = int((right - left) * (1 + 2 * padding))
    before = (max(0, margin - left), max(0, margin - top))
    after = (max(0, right + margin - pixels.shape[1]), max(0, bottom + margin - pixels.shape[0]))
    # The face's surroundings, not the whole photo; a new array, as dlib takes no views.
    x0, y0 = max(0, left - margin), max(0, top - margin)
    around = pixels[y0 : bottom + margin, x0 : right + margin]
    padded = np.pad(around, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")
    dx, dy = before[0] - x0, before[1] - y0
    points = [dlib.point(round(x + before[0]) - x0, round(y + before[1]) - y0) for x, y in face.landmarks]
    box = dlib.rectangle(left + dx, top + dy, right + dx, bottom + dy)
    return np.asarray(dlib.get_face_chip(padded, dlib.full_object_detection(box, points), size=size, padding=padding))


def crop_square(face: Face, *, padding: float = CROP_PADDING) -> tuple[float, float, float]:
    """Left, top and side, in pixels of the photo, of the upright square about where `crop_face` crops, which also turns it."""
    points = [dlib.point(round(x), round(y)) for x, y in face.landmarks]
    shape = dlib.full_object_detection(dlib.rectangle(*face.box), points)
    rectangle = dlib.get_face_chip_details(shape, size=CROP_SIZE, padding=padding).rect
    return rectangle.left(), rectangle.top(), rectangle.width()


def sharpness(crop: Pixels) -> float:
    """Variance of the Laplacian of the crop's grey values; the crop must be of CROP_SIZE with CROP_PADDING.

    Of 158 LFW photos: minimum 32, first percentile 44, median 160; blurred with sigma 1.5 pixels 7 to 36, with 4 2.4 to 4.3.
    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".
    """
    grey = np.asarray(Image.fromarray(crop).convert("L"), dtype=np.float64)  # (H, W)
    neighbors = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((neighbors - 4 * grey[1:-1, 1:-1]).var())


def near_duplicate_hash(crop: Pixels) -> int:
    """Difference hash of 512 bits: whether a pixel is brighter than its neighbour. Nearly equal for copies of one image.

    crop: (H, W, 3), such as from `crop_face`. Copies have a `hash_distance` of at most NEAR_DUPLICATE_BITS.
    Source: Krawetz 2013 (difference hash), with the neighbours at the left and above.
    """
    grey = np.asarray(Image.fromarray(crop).convert("L").resize((17, 17), Image.Resampling.LANCZOS), dtype=np.int16)
    steps = (np.diff(grey[:-1], axis=1) > 0, np.diff(grey[:, :-1], axis=0) > 0)  # 2 of (16, 16)
    return int.from_bytes(np.packbits(np.stack(steps)).tobytes(), "big")


def hash_distance(a: int, b: int) -> int:
    """Number of differing bits of two near-duplicate hashes."""
    return (a ^ b).bit_count()


def _resize(pixels: Pixels, scale: float) -> Pixels:
    pixels = np.ascontiguousarray(pixels)  # dlib takes no views
    if scale == 1:
        return pixels
    rows, columns = (max(1, round(length * scale)) for length in pixels.shape[:2])
    return np.asarray(dlib.resize_image(pixels, rows=rows, cols=columns))


def _face(shape: Any, box: Any, scale: float) -> Face:
    landmarks = np.array([(point.x, point.y) for point in shape.parts()]) / scale  # (5, 2)
    left, top, right, bottom = (round(edge / scale) for edge in (box.left(), box.top(), box.right(), box.bottom()))
    return Face((left, top, right, bottom), landmarks)
