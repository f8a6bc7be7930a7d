"""The data set of the pocket model's UNet: latents, embeddings and captions of photos, each computed once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenth.core.cache import Array, ArrayCache
from tenth.core.config import Fraction, config_dataclass
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import parse_prompt_attributes
from tenth.data.faces.crops import CROPS_NAMESPACE, FaceCrops, to_minus_one_one
from tenth.data.faces.descriptors import encoder_name
from tenth.models.encoders.dlib_resnet import crops_to_chips, load_dlib_net
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.training.adapter.dataset import person_spans
from tenth.training.adapter.encoding import compute_in_batches
from tenth.training.diffusion_loss import ConditioningDropout
from tenth.training.frozen_network import weights_digest
from tenth.training.pocket.augmentation import NUM_AUGMENTATIONS, Augmentation


@config_dataclass
class PocketConditioningDropout(ConditioningDropout):
    """Beside the conditions of an image those of a step, so that the model without adapter is trained as well."""

    p_unconditional: Fraction = 0.1
    p_no_text: Fraction = 0.1
    p_no_adapter: Fraction = 0.3  # of the steps run without the adapter at all
    p_self_reference: Fraction = 0.5  # of the images are described by their own embedding, others by another of the person
    p_mean_reference: Fraction = 0.0  # of those others by all other photos of the person: their mean, its norm restored


@dataclass(frozen=True, eq=False)
class AugmentedLatents:
    """Latents of photos augmented in each step. load_images: indices (B,), whether mirrored (B,) -> (B, 3, H, W) in [-1, 1]."""

    load_images: Callable[[Tensor, Tensor], Tensor]
    encoder: nn.Module
    augmentation: Augmentation

    @torch.no_grad()
    def __call__(self, latents: Tensor, indices: Tensor, mirrored: Tensor, rng: StepRNG) -> tuple[Tensor, Tensor]:
        """The latents (B, 8, h, w), some replaced by those of augmented photos; the amounts, (B, NUM_AUGMENTATIONS)."""
        selected = rng.uniform() < self.augmentation.p_apply
        amounts = (2 * rng.uniform(NUM_AUGMENTATIONS) - 1) * selected[:, None]
        latents, (positions,) = latents.clone(), torch.where(selected)
        if len(positions):
            images = self.load_images(indices[positions], mirrored[positions])
            augmented = self.augmentation(images, amounts[positions].to(images.device))
            latents[positions] = self.encoder(augmented).to(latents)
        return latents, amounts


@dataclass(frozen=True, eq=False)
class PocketDataset:
    """All data of a training, in memory. person_spans: for each photo, the first photo and number of photos of its person."""

    latents: Tensor  # (N, 2, 8, 16, 16): as it is, and mirrored
    embeddings: Tensor  # (N, 128)
    tokens: Tensor  # (N, V, T): V captions of each photo
    person_spans: Tensor  # (N, 2)
    mean_embeddings: Tensor  # (N, 128): of each photo's person, without that photo
    augmented: AugmentedLatents | None = None  # where photos are changed

    def reference_embeddings(self, indices: Tensor, dropout: PocketConditioningDropout, rng: StepRNG) -> Tensor:
        """Embeddings (B, 1, 128): of the photo itself with probability `p_self_reference`, else of another of its person."""
        first, num_photos = self.person_spans[indices].unbind(1)
        shift = 1 + (rng.uniform() * (num_photos - 1)).long()
        other = first + (indices - first + shift) % num_photos
        use_self = rng.uniform() < dropout.p_self_reference
        embeddings = self.embeddings[torch.where(use_self, indices, other)]
        if dropout.p_mean_reference:
            use_mean = ~use_self & (rng.uniform() < dropout.p_mean_reference)
            embeddings = torch.where(use_mean[:, None], self.mean_embeddings[indices], embeddings)
        return embeddings[:, None]


def repeat_factor_sampling(captions: Sequence[str], repeat_threshold: float) -> Tensor:
    """Indices of photos, in order, those with a rare attribute several times: (M,), M >= N.

    An attribute that a fraction f < t = `repeat_threshold` of the captions has is repeated sqrt(t / f) times; the rarest of
    a photo decides. Source: Gupta et al. 2019, LVIS, arXiv:1908.03195, section 5.2.
    """
    # The factor of each photo, at least 1.
    parsed = [parse_prompt_attributes(caption) for caption in captions]
    attributes = [{name for name, requested in each.items() if requested} for each in parsed]
    counts = Counter(name for names in attributes for name in names)
    rarest = [min((counts[name] for name in names), default=math.inf) for names in attributes]
    factors = [max(1.0, (repeat_threshold * len(captions) / count) ** 0.5) for count in rarest]

    # A running sum rounds factors to whole numbers without randomness: 1.5 and 1.5 become 1 and 2.
    ends = torch.tensor(factors, dtype=torch.float64).cumsum(0).floor().long()
    return torch.repeat_interleave(torch.arange(len(captions)), ends.diff(prepend=torch.zeros(1, dtype=torch.long)))


@torch.no_grad()
def compute_descriptors(faces: FaceCrops, cache: ArrayCache) -> Tensor:
    """dlib's descriptors (N, 128) of the crops, each computed once; they are about 0.04 from those of the photos."""
    net, digests = load_dlib_net(), [entry.digest for entry in faces.entries]

    def compute(indices: list[int]) -> Array:
        descriptors: Array = net(crops_to_chips(to_minus_one_one(faces.crops[indices]))).numpy()
        return descriptors

    return compute_in_batches(cache, f"{CROPS_NAMESPACE}-{encoder_name()}", digests, compute, "embeddings")


@torch.no_grad()
def compute_latents(faces: FaceCrops, model: PocketAutoencoder, cache: ArrayCache) -> Tensor:
    """Latents (N, 2, 8, 16, 16) of each crop and its mirror image. They depend on the encoder, not on the decoder."""

    def compute(indices: list[int]) -> Array:
        pixels = to_minus_one_one(faces.crops[indices])
        return torch.stack([model.encoder(pixels), model.encoder(pixels.flip(-1))], 1).numpy()

    namespace, digests = f"latents-{weights_digest(model.encoder)}", [entry.digest for entry in faces.entries]
    return compute_in_batches(cache, namespace, digests, compute, "latents")


def person_spans_of(people: Sequence[str]) -> Tensor:
    """The first photo and the number of photos of each photo's person, (N, 2); a person's photos are consecutive."""
    first, counts = person_spans(people)
    return torch.stack([first, counts], 1).repeat_interleave(counts, 0)


def leave_one_out_means(embeddings: Tensor, person_spans: Tensor) -> Tensor:
    """Mean of the other embeddings of each photo's person, with their mean norm; its own if it has no other: (N, 128)."""
    means_per_photo = embeddings.clone()
    for first, num_photos in person_spans.unique(dim=0).tolist():
        if num_photos > 1:
            rows = embeddings[first : first + num_photos]
            means = (rows.sum(0) - rows) / (num_photos - 1)
            norms = rows.norm(dim=1)
            target_norms = (norms.sum() - norms) / (num_photos - 1)
            means_per_photo[first : first + num_photos] = means * (target_norms / means.norm(dim=1).clamp(min=1e-6))[:, None]
    return means_per_photo
