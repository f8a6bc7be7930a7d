"""Photos -> face embeddings (K, 128), by dlib's ResNet: the pocket model's image encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import Store
from tenth.core.types import Photo
from tenth.data.face_descriptors import describe, describe_through, encoder_name


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
