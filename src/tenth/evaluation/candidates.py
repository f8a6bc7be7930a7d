"""The best of several images of one person: identity to the photos given, sharpness, a whole face, and no copy of a photo.

The face recognizer is the package's own, which the pocket model is conditioned on; never the one that an evaluation is by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.core.types import Encoder, Face, Identity, Photo, Pixels, Sample
from tenth.data.faces.descriptors import CHIP_PADDING, CHIP_PIXELS
from tenth.data.faces.detection import (
    DETECTION_SIZE,
    NEAR_DUPLICATE_BITS,
    crop_face,
    detect_faces,
    face_width,
    hash_distance,
    near_duplicate_hash,
    sharpness,
)
from tenth.models.encoders.dlib_resnet import DlibNet, load_dlib_net
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

MAX_SCALE = 2  # a pocket image is searched at 256 pixels: 7 ms instead of 55, and the same faces are found
BATCH_FACES = 16  # of a run of the recognizer
MIN_FACE_SCORE = 0.5  # of the detector: below, what is found is seldom a face
ENOUGH_SHARPNESS = 160.0  # the median of LFW's photos: beyond it a sharper image is no better
# What counts beside identity, which is 0.04 apart in the images of one person and prompt: per unit of log sharpness, of the
# detector's score, and of a bit in which the face differs from the nearest photo.
SHARPNESS, FACE_SCORE, PHOTO_BITS = 0.07, 0.045, 0.0012
UNLIKE_BITS = 190  # in the median of images, where there is no photo to compare with


@dataclass(frozen=True)
class CandidateFigures:
    """What an image is ranked by. None where there is no face, or no photo to compare with.

    identity: mean cosine of its face to those of the photos. sharpness: variance of the Laplacian (data/faces/detection.py).
    face_score: the detector's, about 0 for what is no face. face_cut: whether the face reaches beyond the image.
    nearest_photo_bits: of 512, differing between its face and the most similar photo's; up to 64 is a copy.
    """

    identity: float | None = None
    sharpness: float | None = None
    face_score: float | None = None
    face_cut: bool | None = None
    nearest_photo_bits: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether a face was found, and lies within the image."""
        return self.face_score is not None and self.face_score >= MIN_FACE_SCORE and not self.face_cut

    @property
    def is_copy(self) -> bool:
        """Whether it is one of the photos again."""
        return self.nearest_photo_bits is not None and self.nearest_photo_bits <= NEAR_DUPLICATE_BITS


@dataclass(frozen=True, eq=False)
class ReferenceFaces:
    """The person that images are compared with.

    embeddings: (K, 128), centered dlib descriptors of length 1. hashes: near-duplicate hashes of the photos' faces; empty if
    the photos are not at hand.
    """

    embeddings: Tensor
    hashes: tuple[int, ...] = ()

    @classmethod
    def from_photos(cls, photos: Sequence[Photo]) -> ReferenceFaces:
        """Of photos in which a face was located. Raises ModelError if the recognizer's weights are not installed."""
        located = [(photo.pixels, photo.face) for photo in photos if photo.face is not None]
        hashes = tuple(near_duplicate_hash(crop_face(pixels, face)) for pixels, face in located)
        return cls(embed_faces(located), hashes)

    @classmethod
    def from_identity(cls, identity: Identity, encoder: Encoder) -> ReferenceFaces:
        """Of an identity without its photos. Raises IdentityError if it holds no embeddings of dlib's recognizer."""
        if identity.embeddings is None or encoder.dlib_mean is None or identity.embeddings.ndim != 2:
            raise IdentityError(
                f"an identity of {identity.method} for {identity.model.partition('@')[0]}, which holds no embeddings of faces",
                "the person's photos are needed to tell which images are most like them",
                "Give the folder of photos instead, or leave out --candidates",
            )
        return cls(_normalized(identity.embeddings.double()))


@dataclass(frozen=True, eq=False)
class RankedSample:
    """A generated image, and what it was ranked by."""

    sample: Sample
    figures: CandidateFigures


def rank_samples(samples: Iterable[Sample], photos: Sequence[Photo]) -> list[RankedSample]:
    """Images of one prompt by the person of these photos, the best first, as `rank_candidates` says.

    Raises ModelError if the recognizer's weights are not installed.
    """
    candidates = list(samples)
    figures = measure_candidates([sample.pixels for sample in candidates], ReferenceFaces.from_photos(photos))
    return [RankedSample(candidates[index], figures[index]) for index in rank_candidates(figures)]


def measure_candidates(images: Sequence[Pixels], references: ReferenceFaces) -> list[CandidateFigures]:
    """The figures of each image (H, W, 3). Raises ModelError if the recognizer's weights are not installed."""
    found = [_largest_face(pixels) for pixels in images]
    located = [(pixels, face) for pixels, (face, _) in zip(images, found, strict=True) if face is not None]
    cosines = iter((embed_faces(located) @ references.embeddings.T).mean(1).tolist())  # (N,)
    figures = []
    for pixels, (face, score) in zip(images, found, strict=True):
        if face is None:
            figures.append(CandidateFigures())
            continue
        crop = crop_face(pixels, face)
        code = near_duplicate_hash(crop)
        figures.append(
            CandidateFigures(
                identity=round(next(cosines), 4),
                sharpness=round(sharpness(crop), 1),
                face_score=round(score, 3),
                face_cut=_is_cut(face, pixels),
                nearest_photo_bits=min((hash_distance(code, other) for other in references.hashes), default=None),
            )
        )
    return figures


def rank_candidates(figures: Sequence[CandidateFigures]) -> list[int]:
    """Indices of the images, the best first. Equal ones keep their order.

    Those with a whole face that copy no photo come before all others; among them the order is by `quality`.
    """

    def key(index: int) -> tuple[bool, bool, float]:
        image = figures[index]
        return not image.is_whole, image.is_copy, -quality(image)

    return sorted(range(len(figures)), key=key)


def quality(figures: CandidateFigures) -> float:
    """Identity, and what the other figures are worth beside it (docs/decisions/0010-generate.md). 0 without a face."""
    if figures.identity is None or figures.sharpness is None or figures.face_score is None:
        return 0.0
    sharp = math.log(min(max(figures.sharpness, 1.0), ENOUGH_SHARPNESS))
    unlike = UNLIKE_BITS if figures.nearest_photo_bits is None else figures.nearest_photo_bits
    return figures.identity + SHARPNESS * sharp + FACE_SCORE * figures.face_score + PHOTO_BITS * unlike


def embed_faces(located: Sequence[tuple[Pixels, Face]]) -> Tensor:
    """Centered dlib descriptors of length 1, (N, 128) float64, of faces in their images.

    The network computes what dlib's own does, to 1e-6, in a tenth of the time.
    """
    if not located:
        return torch.empty(0, 128, dtype=torch.float64)
    chips = [crop_face(pixels, face, size=CHIP_PIXELS, padding=CHIP_PADDING) for pixels, face in located]
    batch = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float()  # (N, 3, 150, 150)
    with torch.inference_mode():
        rows = torch.cat([_recognizer()(part) for part in batch.split(BATCH_FACES)])  # (N, 128)
    return _normalized(rows.double() - _center())


@cache
def _recognizer() -> DlibNet:
    return load_dlib_net()


@cache
def _center() -> Tensor:
    """(128,), the mean descriptor of many people: around it, cosines of different people are about 0."""
    return read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double()


def _normalized(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1)


def _largest_face(pixels: Pixels) -> tuple[Face | None, float]:
    detections = detect_faces(pixels, min(MAX_SCALE, DETECTION_SIZE / max(pixels.shape[:2])))
    best = max(detections, key=lambda each: face_width(each.face), default=None)
    return (best.face, best.score) if best else (None, 0.0)


def _is_cut(face: Face, pixels: Pixels) -> bool:
    (left, top, right, bottom), (height, width) = face.box, pixels.shape[:2]
    return left < 0 or top < 0 or right > width or bottom > height
