"""Photos -> face embeddings (K, 128), by dlib's ResNet: the pocket model's image encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import torch
from torch import Tensor

from tenth.data import folder
from tenth.data.faces import crop_face, model_file
from tenth.encode.store import Array, Store, default_store
from tenth.errors import DataError
from tenth.file_reading import file_digest
from tenth.types import Person, Photo, Pixels

WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
CHIP_PIXELS, CHIP_PADDING = 150, 0.25  # what dlib's recogniser was trained on


@cache
def _recogniser() -> Any:
    return dlib.face_recognition_model_v1(str(model_file(WEIGHTS)))


@cache
def encoder_name() -> str:
    """'name@digest': the recogniser and its weights, for cache keys and identities."""
    return f"dlib-resnet@{file_digest(model_file(WEIGHTS))[:16]}"


def describe(photo: Photo) -> Array:
    """dlib's descriptor (128,) float64 of the photo's face, of norm about 1.4.

    Source: King 2017, "High quality face recognition with deep metric learning". Raises DataError if the photo has no face.
    """
    return np.array(_recogniser().compute_face_descriptor(_chip(photo)))


def _chip(photo: Photo) -> Pixels:
    if photo.face is None:
        raise DataError(f"{photo.file or 'a photo'} has no face located", "the face encoder reads faces", "Find the face first")
    return crop_face(photo.pixels, photo.face, side=CHIP_PIXELS, padding=CHIP_PADDING)


def describe_through(store: Store) -> folder.Describe:
    """`describe`, computed once per face: the key is the sha256 of the very pixels that the recogniser reads."""

    def described(photo: Photo) -> Array:
        key = hashlib.sha256(_chip(photo).tobytes()).hexdigest()
        return next(store.remember(encoder_name(), [key], lambda _: [describe(photo)]))

    return described


def read_person(directory: str | Path, store: Store | None = None) -> Person:
    """The accepted photos of a folder, judged with dlib's recogniser. Raises DataError where none is usable."""
    return folder.read_person(Path(directory), describe=describe_through(store or Store(default_store())))


def examine(directory: str | Path, store: Store | None = None) -> list[folder.Verdict]:
    """A verdict on every entry of a folder, judged with dlib's recogniser. Raises DataError if there is no such folder."""
    return folder.examine(Path(directory), describe=describe_through(store or Store(default_store())))


def statistics_of(descriptors: Tensor) -> tuple[Tensor, float]:
    """(centre (128,), scale) of many people's descriptors (N, 128): what makes them centred, of unit variance on average."""
    return descriptors.mean(0), float(descriptors.var(0).mean().sqrt())


class FaceEncoder:
    """dlib's descriptors, centred and scaled: (K, 128) float32, each component about unit variance over many people.

    centre: (128,), scale: a number, both measured on training people; without them photos of strangers have cosines of 0.83 and
    agreement between photos says little. Distances stay dlib's, divided by scale.
    """

    width, tokens = 128, 0

    def __init__(self, centre: Tensor, scale: float, store: Store | None = None) -> None:
        self.centre, self.scale, self.store = centre, scale, store
        self.name = encoder_name()

    def __call__(self, photos: Sequence[Photo]) -> Tensor:
        described = describe_through(self.store) if self.store else describe
        descriptors = np.stack([described(photo) for photo in photos])
        return self.standardised(torch.from_numpy(descriptors).float())  # (K, 128)

    def nobody(self) -> Tensor:
        """(128,), zeros: what an adapter sees where it shall see nobody."""
        return torch.zeros(self.width)

    def standardised(self, descriptors: Tensor) -> Tensor:
        """dlib's descriptors (K, 128) -> embeddings (K, 128)."""
        return (descriptors - self.centre) / self.scale
