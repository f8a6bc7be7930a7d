"""What the pocket model learns from: the face crops of people.jsonl, each computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tenth.core.cache import Array, ArrayCache
from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.types import Face, Photo, Pixels
from tenth.data.faces.detection import CROP_PADDING, CROP_SIZE, crop_face
from tenth.data.faces.multiscale import open_photo_with_faces
from tenth.data.manifest import ManifestEntry, read_manifest

CENTRAL_FACE = "central-face"  # in the store: values of the face nearest a photo's centre, by the photo's sha256
CROPS_NAMESPACE = f"{CENTRAL_FACE}-crop-{CROP_SIZE}-{CROP_PADDING}"


@dataclass(frozen=True)
class PhotoDataset:
    """Where the photos are. people: the file that `tenth data` writes. photos: the folder its `file`s lie below."""

    people: Path
    photos: Path

    def entries(self, split: str, *, required: bool = True) -> list[ManifestEntry]:
        """Rows of one split, in the file's order. Raises DataError if there are none and they are needed."""
        entries = [row for row in read_manifest(self.people) if row.split == split]
        if required and not entries:
            raise DataError(
                f"{self.people} has no {split} people",
                "at least one is needed",
                "Write it anew, of more people: `tenth data lfw` or `tenth data image-folder`",
            )
        return entries

    def open_with_central_face(self, entry: ManifestEntry) -> Photo | None:
        """The photo with the face nearest its centre, whom LFW names; None without a face."""
        photo, faces = open_photo_with_faces(self.photos / entry.file)
        height, width = photo.pixels.shape[:2]
        face = min(faces, key=lambda face: _distance(face, width / 2, height / 2), default=None)
        return Photo(photo.pixels, entry.digest, entry.file, face) if face else None


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """Rows that have a face, and their crops (N, 3, 128, 128) uint8."""

    entries: tuple[ManifestEntry, ...]
    crops: Tensor

    def images(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Crops by number (B,), those mirrored where `mirrored` is not 0 -> float32 (B, 3, 128, 128) in [-1, 1]."""
        crops = to_minus_one_one(self.crops[indices])
        return torch.where(mirrored.bool()[:, None, None, None], crops.flip(-1), crops)


def load_face_crops(dataset: PhotoDataset, split: str, cache: ArrayCache) -> FaceCrops:
    """Crops of every photo of one split in which a face is found; the others are left out."""
    entries = dataset.entries(split)
    arrays = cache.get_or_compute(CROPS_NAMESPACE, [row.digest for row in entries], partial(compute_crops, dataset, entries))
    detected = [(row, crop) for row, crop in zip(entries, arrays, strict=True) if crop.size]
    crops = torch.from_numpy(np.stack([crop for _, crop in detected])).permute(0, 3, 1, 2)  # (N, 3, 128, 128)
    return FaceCrops(tuple(row for row, _ in detected), crops)


def to_minus_one_one(crops: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 in [-1, 1]."""
    return crops.float() / 127.5 - 1


def compute_crops(dataset: PhotoDataset, entries: Sequence[ManifestEntry], missing: list[int]) -> Iterator[Array]:
    """The face of each photo as the pocket model draws faces, (128, 128, 3), empty where there is none."""
    for index in track(missing, "crops"):
        photo = dataset.open_with_central_face(entries[index])
        yield np.zeros((0,), np.uint8) if photo is None or photo.face is None else crop_face(photo.pixels, photo.face)


def _distance(face: Face, x: float, y: float) -> float:
    left, top, right, bottom = face.box
    return abs((left + right) / 2 - x) + abs((top + bottom) / 2 - y)


def center_crop(photo: Photo, size: int) -> Pixels:
    """The middle square of a photo, (side, side, 3)."""
    return np.asarray(ImageOps.fit(Image.fromarray(photo.pixels), (size, size), Image.Resampling.LANCZOS))
