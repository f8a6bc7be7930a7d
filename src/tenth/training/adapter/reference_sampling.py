"""Sampling of references: for each image of a batch, one photo to predict and other photos of the person to predict it from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tenth.core.config import Count, Fraction, NonNegative, Positive, config_dataclass, require
from tenth.core.rng import StepRNG
from tenth.training.adapter.dataset import AdapterDataset


@config_dataclass
class ReferenceSampling:
    """How references are chosen. The photo to predict is never one of them."""

    max_photos: Count = 9
    min_photos: Count = 9  # below `max_photos`, a number between the two is sampled for each image
    p_impostor: Fraction = 0.0  # share of the sets of three and more in which one photo is of somebody else
    p_degraded: Fraction = 0.0  # share of the photos that are blurred, small or half hidden

    def __post_init__(self) -> None:
        require(self.min_photos <= self.max_photos, "min_photos", self.min_photos, f"at most max_photos, {self.max_photos}")

    @property
    def required_photos(self) -> int:
        """How many photos a person needs for training."""
        return self.min_photos + 1


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """target: (B,), the photo to predict. references: (B, K), the photos it is predicted from, before impostors are mixed in.

    mask: (B, K), which of them count. embeddings: (B, K, D), of the references with degraded and impostor photos among them.
    """

    target: Tensor
    references: Tensor
    mask: Tensor
    embeddings: Tensor


def sample_references(
    dataset: AdapterDataset, person_indices: Tensor, config: ReferenceSampling, rng: StepRNG
) -> ReferenceBatch:
    """For each person (B,) a target photo, uniformly at random, and references drawn from the other photos."""
    # A random permutation of each person's photos: sort random keys, those beyond the person's number last.
    first_photo, num_photos = dataset.first_photo[person_indices], dataset.num_photos[person_indices]
    sort_keys = rng.uniform(dataset.max_photos)  # (B, largest number of photos)
    sort_keys = sort_keys.masked_fill(torch.arange(sort_keys.shape[1]) >= num_photos[:, None], 2.0)
    num_sampled = min(config.max_photos + 1, sort_keys.shape[1])
    offsets = torch.minimum(sort_keys.argsort(1)[:, :num_sampled], num_photos[:, None] - 1)
    sampled = first_photo[:, None] + offsets  # (B, K + 1)

    # The first photo is the target; of the others, a random number between `min_photos` and `max_photos` count.
    num_references = config.min_photos + rng.integers(config.max_photos - config.min_photos + 1)
    mask = torch.arange(num_sampled - 1) < torch.minimum(num_references, num_photos - 1)[:, None]  # (B, K)
    references = sampled[:, 1:]

    # Impostor and degraded photos.
    with_impostors = _with_impostors(dataset, person_indices, references, mask, config.p_impostor, rng)
    embeddings = dataset.embeddings(with_impostors, rng.uniform(num_sampled - 1) < config.p_degraded)  # (B, K, D)
    return ReferenceBatch(sampled[:, 0], references, mask, embeddings * mask[..., None])


def _with_impostors(
    dataset: AdapterDataset, person_indices: Tensor, references: Tensor, mask: Tensor, p_impostor: float, rng: StepRNG
) -> Tensor:
    """The references (B, K); with probability `p_impostor` one of three or more is replaced by a photo of another person.

    The other person is one of the window from which the step's people are, so that their photos are read from few files.
    """
    people = dataset.window(rng)  # (W,)
    position = torch.searchsorted(people, person_indices)
    impostor = people[(position + 1 + rng.integers(max(len(people) - 1, 1))) % len(people)]
    impostor_photo = dataset.first_photo[impostor] + (rng.uniform() * dataset.num_photos[impostor]).long()
    num_references = mask.sum(1)
    position = (rng.uniform() * num_references).long()  # (B,), always one that counts
    replaced = (rng.uniform() < p_impostor) & (num_references >= 3) & (impostor != person_indices)
    replace_mask = replaced[:, None] & (torch.arange(references.shape[1]) == position[:, None])
    return torch.where(replace_mask, impostor_photo[:, None], references)


@config_dataclass
class IdentityContrastiveLoss:
    """Cosine to the identity's centre with InfoNCE, on embeddings alone, before any image is predicted."""

    infonce_weight: NonNegative = 1.0  # weight of InfoNCE beside the cosine
    temperature: Positive = 0.1  # of its softmax over the centroids of everybody in the window
    references: ReferenceSampling = ReferenceSampling(min_photos=1, p_impostor=0.3, p_degraded=0.2)

    def __call__(self, aggregator: torch.nn.Module, dataset: AdapterDataset, person_indices: Tensor, rng: StepRNG) -> Tensor:
        """The loss, a scalar. The positive is the centroid of the person's photos that are not references.

        Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; the centroid as target: Kim et al. 2022, arXiv:2210.10864.
        """
        # The centroid of everybody in the window, and of each image's person that of the photos which are not references. Only
        # directions count, so sums need no division.
        batch = sample_references(dataset, person_indices, self.references, rng)
        people = dataset.window(rng)  # (W,)
        owners = torch.repeat_interleave(torch.arange(len(people)), dataset.num_photos[people])
        embeddings = dataset.embeddings(dataset.photos_of(people))
        sums = torch.zeros(len(people), embeddings.shape[1]).index_add_(0, owners, embeddings)
        reference_sums = (dataset.embeddings(batch.references) * batch.mask[..., None]).sum(1)
        device = next(aggregator.parameters()).device
        positions = torch.searchsorted(people, person_indices)
        target = normalize(sums[positions] - reference_sums, dim=-1).to(device)  # (B, D)
        centroids, positions = normalize(sums, dim=-1).to(device), positions.to(device)  # (W, D)

        # InfoNCE over the centroids, and the cosine itself.
        with torch.autocast(device.type, enabled=False):  # bfloat16 is too coarse for cosines
            pooled = normalize(aggregator(batch.embeddings.to(device), batch.mask.to(device))[:, 0], dim=-1)  # (B, D)
            positive = (pooled * target).sum(1)
            cosines = (pooled @ centroids.T).scatter(1, positions[:, None], positive[:, None])  # (B, W)
            return self.infonce_weight * cross_entropy(cosines / self.temperature, positions) + (1 - positive).mean()
