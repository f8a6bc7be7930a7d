"""The identity loss: the face that a prediction shows should be the photo's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.core.config import Fraction, NonNegative, config_dataclass
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.encoders.dlib_resnet import DlibNet, crops_to_chips, load_dlib_net
from tenth.models.pocket.autoencoder import PocketAutoencoder


@config_dataclass
class IdentityLossConfig:
    """How much a prediction's face counts beside its noise, and on which images it is looked at."""

    weight: NonNegative = 0.0  # of the term, times the share of signal in the noisy latents; 0 leaves it out
    feature_weight: NonNegative = 0.0  # of the recognizer's early features, beside the embedding
    p_apply: Fraction = 0.5  # of an image: the term needs a decoding and the recognizer, forward and backward
    min_alphas_cumprod: Fraction = 0.25  # least share of signal (of the variance): with less, blurred means become caricatures


def jittered(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Crops (B, C, H, W), enlarged and moved by amounts (B, 3) of their side, each negative or positive; edges are repeated.

    What deceives a recognizer at one place of its grid alone is not what a face has.
    """
    enlargement, offsets = amounts.split([1, 2], 1)
    scales = torch.eye(2, dtype=pixels.dtype) * (1 - enlargement)[:, None]  # (B, 2, 2)
    grid = F.affine_grid(torch.cat((scales, 2 * offsets[..., None]), 2), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


class IdentityLoss:
    """One minus the cosine between the face that predicted latents show and the photo's own embedding.

    So a perfect prediction minimises both terms of the objective. The recognizer conditions the adapter as well: judge the gain
    with another one. Source of the idea: Guo et al. 2024, PuLID, arXiv:2404.16022, section 3.3.
    """

    def __init__(self, autoencoder: PocketAutoencoder, encoder: FaceEncoder) -> None:
        self.decoder = autoencoder.decoder.requires_grad_(False).to(memory_format=torch.channels_last)
        self.face_net: DlibNet = load_dlib_net().to(memory_format=torch.channels_last)
        self.encoder = encoder

    def __call__(
        self, latents: Tensor, target_embeddings: Tensor, target_latents: Tensor, feature_weight: float = 0.0
    ) -> Tensor:
        """latents, target_latents: (B, 8, 16, 16), predicted and real. target_embeddings: (B, 128). -> (B,), 0 at best."""
        descriptors, features = self.face_net.forward_features(crops_to_chips(self.decoder(latents)))
        error = 1 - F.cosine_similarity(self.encoder.standardize(descriptors.float()), target_embeddings, dim=1)
        if feature_weight:
            with torch.no_grad():
                _, target_features = self.face_net.forward_features(crops_to_chips(self.decoder(target_latents)))
            error = error + feature_weight * feature_distance(features, target_features)
        return error


def feature_distance(features: Sequence[Tensor], target_features: Sequence[Tensor]) -> Tensor:
    """Squared distance of unit features (B, C, H, W), averaged, (B,): LPIPS (arXiv:1801.03924) without trained weights."""
    pairs = zip(features, target_features, strict=True)
    distances = [1 - F.cosine_similarity(a.float(), b.float(), dim=1).mean((1, 2)) for a, b in pairs]
    return 2 * torch.stack(distances).mean(0)
