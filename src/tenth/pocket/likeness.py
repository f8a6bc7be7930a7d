"""The second term of the pocket model's objective: the face that a prediction shows shall be the photo's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.encode.dlib_net import DlibNet, chips_of, open_dlib_net
from tenth.encode.face import FaceEncoder
from tenth.pocket.autoencoder import PocketAutoencoder


@dataclass(frozen=True)
class LikenessWeights:
    """How much a prediction's face counts beside its noise, and on which images it is looked at."""

    weight: float = 0.0  # of the term, times the share of signal in the noisy latents; 0 leaves it out
    share: float = 0.5  # of the images are looked at: it costs a decoding and the recogniser, there and back
    signal: float = 0.25  # least share of signal (of the variance): below it, it bends blurred means into caricatures


class Likeness:
    """One minus the cosine between the face that predicted latents show and the photo's own embedding.

    Own, so that a perfect prediction is perfect by both terms. It looks with the recogniser that conditions the adapter, so
    what it wins is to be measured with another one. Source of the idea: Guo et al. 2024, PuLID, arXiv:2404.16022, section 3.3.
    """

    def __init__(self, autoencoder: PocketAutoencoder, encoder: FaceEncoder) -> None:
        self.decoder = autoencoder.decoder.requires_grad_(False).to(memory_format=torch.channels_last)
        self.net: DlibNet = open_dlib_net().to(memory_format=torch.channels_last)
        self.encoder = encoder

    def __call__(self, latents: Tensor, wanted: Tensor) -> Tensor:
        """latents: (B, 8, 16, 16), clean as predicted. wanted: embeddings (B, 128). -> in [0, 2], (B,)."""
        chips = chips_of(self.decoder(latents))
        found = self.encoder.standardised(self.net(chips).float())  # (B, 128)
        return 1 - F.cosine_similarity(found, wanted, dim=1)
