"""dlib's 128-d face descriptors, cached."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import dlib
import numpy as np
import numpy.typing as npt

from tenth.core.cache import Array, ArrayCache, photo_key
from tenth.core.errors import DataError
from tenth.core.files.reading import sha256_of
from tenth.core.types import Photo, Pixels
from tenth.data.faces.detection import crop_face, face_model_path

RECOGNIZER_WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
CHIP_PIXELS, CHIP_PADDING = 150, 0.25  # what dlib's recognizer was trained on


@cache
def _recognizer() -> Any:
    return dlib.face_recognition_model_v1(str(face_model_path(RECOGNIZER_WEIGHTS)))


@cache
def encoder_name() -> str:
    """'name@digest' of the recognizer's weights, for cache keys and identities."""
    return f"dlib-resnet@{sha256_of(face_model_path(RECOGNIZER_WEIGHTS))[:16]}"


def face_descriptor(photo: Photo) -> Array:
    """dlib's descriptor (128,) float64 of the photo's face, of norm about 1.4.

    Source: King 2017, "High quality face recognition with deep metric learning". Raises DataError if the photo has no face.
    """
    return _describe(face_chip(photo))


def _describe(chip: Pixels) -> Array:
    return np.array(_recognizer().compute_face_descriptor(chip))


def face_chip(photo: Photo) -> Pixels:
    """What the recognizer reads of the photo's face, (150, 150, 3). Raises DataError if the photo has no face."""
    if photo.face is None:
        raise DataError(f"{photo.file or 'a photo'} has no face located", "the face encoder reads faces", "Find the face first")
    return crop_face(photo.pixels, photo.face, size=CHIP_PIXELS, padding=CHIP_PADDING)


def cached_face_descriptor(array_cache: ArrayCache) -> FaceDescriptor:
    """`face_descriptor` with a cache, whose key is of the photo and the pixels that the recognizer reads. For any threads."""
    lock = threading.Lock()  # dlib's network holds what it computes; and one line says that a cache cannot be written

    def described(photo: Photo) -> Array:
        chip = face_chip(photo)
        key = photo_key(photo.digest, hashlib.sha256(chip.tobytes()).hexdigest())
        with lock:
            return next(array_cache.get_or_compute(encoder_name(), [key], lambda _: [_describe(chip)]))

    return described


FaceDescriptor = Callable[[Photo], npt.NDArray[Any]]
