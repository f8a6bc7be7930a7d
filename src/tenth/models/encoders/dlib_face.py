"""Photos -> face embeddings (K, 128), by dlib's ResNet: the pocket model's image encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import ArrayCache
from tenth.core.types import Photo
from tenth.data.faces.descriptors import cached_face_descriptor, encoder_name, face_descriptor


class FaceEncoder:
    """dlib's descriptors, centred and scaled: (K, 128) float32, each component about unit variance over many people.

    mean (128,) and std are of training people. Without them, photos of different people have cosines of 0.83.
    """

    embedding_dim, num_tokens, crops_faces = 128, 0, True

    def __init__(self, mean: Tensor, std: float, cache: ArrayCache | None = None) -> None:
        self.mean, self.std, self.cache = mean, std, cache
        self.dlib_mean: Tensor | None = mean
        self.name = encoder_name()

    def __call__(self, photos: Sequence[Photo]) -> Tensor:
        descriptor = cached_face_descriptor(self.cache) if self.cache else face_descriptor
        descriptors = np.stack([descriptor(photo) for photo in photos])
        return self.standardize(torch.from_numpy(descriptors))  # (K, 128)

    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor:
        """dlib's descriptors (K, 128), float64. Raises DataError if a photo has no face."""
        return torch.from_numpy(np.stack([face_descriptor(photo) for photo in photos]))

    def standardize(self, raw: Tensor) -> Tensor:
        """dlib's descriptors (K, 128) -> embeddings (K, 128), float32."""
        return (raw.float() - self.mean) / self.std

    def null_embedding(self) -> Tensor:
        """(128,), zeros."""
        return torch.zeros(self.embedding_dim)
