"""Face crops of the photos in people.jsonl, cached: the training data of the pocket model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tenth.core.cache import Array, ArrayCache
from tenth.core.config import FilePath, config_dataclass
from tenth.core.console import track
from tenth.core.errors import DataError, PhotoError
from tenth.core.types import Face, Photo, Pixels
from tenth.core.wording import pluralize
from tenth.data.faces.detection import CROP_PADDING, CROP_SIZE, crop_face
from tenth.data.faces.multiscale import open_photo_with_faces
from tenth.data.manifest import ManifestEntry, read_manifest
from tenth.data.photo import open_photo
from tenth.data.splits import EVERYBODY

CENTRAL_FACE = "central-face"  # in cache keys: the face nearest a photo's centre
CROPS_NAMESPACE = f"{CENTRAL_FACE}-crop-{CROP_SIZE}-{CROP_PADDING}"


@config_dataclass
class PhotoDataset:
    """A manifest and its photos. people: the file that `tenth data` writes. photos: the folder of its photos."""

    people: FilePath
    photos: FilePath

    def entries(self, split: str, *, required: bool = True) -> list[ManifestEntry]:
        """Rows of a split, or of EVERYBODY, in the file's order. Raises DataError if there are none and they are required."""
        rows = read_manifest(self.people)
        entries = [row for row in rows if row.split == split or (split == EVERYBODY and row.split != "reserved")]
        if required and not entries:
            raise DataError(
                f"{self.people} has no {split} people",
                "at least one is needed",
                "Write it again with more people: `tenth data lfw` or `tenth data image-folder`",
            )
        return entries

    def open_with_central_face(self, entry: ManifestEntry) -> Photo | None:
        """The photo with the face nearest its centre, whom LFW names; None without a face. Raises DataError as `open`."""
        with self._explained(entry):
            photo, faces = open_photo_with_faces(self.photos / entry.file)
        self._require_listed(photo, entry)
        height, width = photo.pixels.shape[:2]
        face = min(faces, key=lambda face: _distance(face, width / 2, height / 2), default=None)
        return Photo(photo.pixels, entry.digest, entry.file, face) if face else None

    def open(self, entry: ManifestEntry) -> Photo:
        """The photo of a row. Raises DataError if it is missing, damaged or another one than was listed."""
        with self._explained(entry):
            photo = open_photo(self.photos / entry.file)
        self._require_listed(photo, entry)
        return photo

    @contextmanager
    def _explained(self, entry: ManifestEntry) -> Iterator[None]:
        """Says which photo of which list cannot be opened."""
        try:
            yield
        except PhotoError as problem:
            needed = f"the photos that {self.people} lists are below {self.photos}"
            if not self.photos.is_dir():
                raise DataError(f"{self.photos} is no folder", needed, "Correct `photos`; docs/data.md has both") from problem
            found = f"{self.photos / entry.file}: {problem.found}"
            raise DataError(found, needed, "Put it back, or write the list again") from problem

    def _require_listed(self, photo: Photo, entry: ManifestEntry) -> None:
        if photo.digest != entry.digest:  # names alone do not tell LFW's variants apart
            found = f"{self.photos / entry.file} has the sha256 {photo.digest[:12]}..."
            needed = f"the photo that {self.people} lists has {entry.digest[:12]}..."
            raise DataError(found, needed, "Give the folder of which the list was written, or write the list again")


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """Rows that have a face, and their crops (N, 3, 128, 128) uint8."""

    entries: tuple[ManifestEntry, ...]
    crops: Tensor

    def images(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Crops by index (B,), mirrored where `mirrored` (B,) is not 0 -> float32 (B, 3, 128, 128) in [-1, 1]."""
        crops = to_minus_one_one(self.crops[indices])
        return torch.where(mirrored.bool()[:, None, None, None], crops.flip(-1), crops)


def load_face_crops(dataset: PhotoDataset, split: str, cache: ArrayCache) -> FaceCrops:
    """Crops of the photos of one split; photos without a face are omitted."""
    entries = dataset.entries(split)
    arrays = cache.get_or_compute(CROPS_NAMESPACE, [row.digest for row in entries], partial(compute_crops, dataset, entries))
    detected = [(row, crop) for row, crop in zip(entries, arrays, strict=True) if crop.size]
    if not detected:
        found = f"no face in the {pluralize(len(entries), 'photo')} of {split} people of {dataset.people}"
        raise DataError(found, "one is needed at least", "Add people, or photos on which a face can be seen")
    crops = torch.from_numpy(np.stack([crop for _, crop in detected])).permute(0, 3, 1, 2)  # (N, 3, 128, 128)
    return FaceCrops(tuple(row for row, _ in detected), crops)


def to_minus_one_one(crops: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 in [-1, 1]."""
    return crops.float() / 127.5 - 1


def compute_crops(dataset: PhotoDataset, entries: Sequence[ManifestEntry], missing: list[int]) -> Iterator[Array]:
    """The aligned face crop of each missing photo, (128, 128, 3) uint8, empty without a face."""
    for index in track(missing, "face crops", "photo"):
        photo = dataset.open_with_central_face(entries[index])
        yield np.zeros((0,), np.uint8) if photo is None or photo.face is None else crop_face(photo.pixels, photo.face)


def _distance(face: Face, x: float, y: float) -> float:
    left, top, right, bottom = face.box
    return abs((left + right) / 2 - x) + abs((top + bottom) / 2 - y)


def center_crop(photo: Photo, size: int) -> Pixels:
    """The central square of a photo, resized: (size, size, 3)."""
    return np.asarray(ImageOps.fit(Image.fromarray(photo.pixels), (size, size), Image.Resampling.LANCZOS))
