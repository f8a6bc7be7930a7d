"""Which photos a training step sees: for each image of the batch one photo to predict and others to predict it from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tenth.core.errors import RecipeError
from tenth.core.rng import Draws
from tenth.training.adapter.dataset import Album


@dataclass(frozen=True)
class References:
    """How references are chosen. The photo to predict is never one of them."""

    most: int = 9
    least: int = 9  # below `most`, a number between the two is drawn for each image
    wrong: float = 0.0  # share of the sets of three and more in which one photo is of somebody else
    poor: float = 0.0  # share of the photos that are blurred, small or half hidden

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise RecipeError(
                f"references from {self.least} to {self.most}", "1 <= least <= most is needed", "Correct the recipe"
            )

    @property
    def photos(self) -> int:
        """How many photos a person needs to be learnt from."""
        return self.least + 1


@dataclass(frozen=True, eq=False)
class Chosen:
    """target: (B,), the photo to predict. photos: (B, K), its references, as they are before any is made worse.

    present: (B, K), which of them count. embeddings: (B, K, D), with poor and wrong photos in their places.
    """

    target: Tensor
    photos: Tensor
    present: Tensor
    embeddings: Tensor


def choose(album: Album, people: Tensor, references: References, draws: Draws) -> Chosen:
    """A photo of each person (B,) left out uniformly at random, and the references drawn from the person's other photos.

    With `least` = `most` = 9 and people of ten photos this is leave-one-out; of more photos ten are drawn anew each time.
    """
    first, count = album.first[people], album.count[people]
    keys = draws.uniform(int(album.count.max()))  # (B, most photos of anybody)
    keys = keys.masked_fill(torch.arange(keys.shape[1]) >= count[:, None], 2.0)
    width = min(references.most + 1, keys.shape[1])
    drawn = first[:, None] + torch.minimum(keys.argsort(1)[:, :width], count[:, None] - 1)  # (B, K + 1), a permutation's head
    number = references.least + draws.integers(references.most - references.least + 1)
    present = torch.arange(width - 1) < torch.minimum(number, count - 1)[:, None]  # (B, K)
    photos = drawn[:, 1:]
    seen = _with_strangers(album, people, photos, present, references.wrong, draws)
    worse = draws.uniform(width - 1) < references.poor
    embeddings = torch.where(worse[..., None], album.poor[seen], album.embeddings[seen])  # (B, K, D)
    return Chosen(drawn[:, 0], photos, present, embeddings * present[..., None])


def _with_strangers(album: Album, people: Tensor, photos: Tensor, present: Tensor, share: float, draws: Draws) -> Tensor:
    """The same photos (B, K), in a share of the sets of three and more one replaced by a photo of somebody else."""
    other = (people + 1 + draws.integers(max(album.people - 1, 1))) % album.people
    photo = album.first[other] + (draws.uniform() * album.count[other]).long()
    number = present.sum(1)
    place = (draws.uniform() * number).long()  # (B,), always one that counts
    struck = (draws.uniform() < share) & (number >= 3) & (other != people)
    at = struck[:, None] & (torch.arange(photos.shape[1]) == place[:, None])
    return torch.where(at, photo[:, None], photos)


@dataclass(frozen=True)
class IdentityObjective:
    """Cosine to the identity's centre with InfoNCE, on embeddings alone, before any image is predicted."""

    contrast: float = 1.0  # weight of InfoNCE beside the cosine
    temperature: float = 0.1  # of its softmax over everybody's centres
    references: References = field(default_factory=lambda: References(least=1, wrong=0.3, poor=0.2))

    def __call__(self, aggregator: torch.nn.Module, album: Album, people: Tensor, draws: Draws) -> Tensor:
        """The loss, a scalar. The right centre is that of the person's photos that are not references.

        Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; the centre as target: Kim et al. 2022, arXiv:2210.10864.
        """
        chosen = choose(album, people, self.references, draws)
        sums = torch.zeros(album.people, album.embeddings.shape[1])
        sums.index_add_(0, torch.repeat_interleave(torch.arange(album.people), album.count), album.embeddings)
        given = (album.embeddings[chosen.photos] * chosen.present[..., None]).sum(1)
        device = next(aggregator.parameters()).device
        own = normalize(sums[people] - given, dim=-1).to(device)  # (B, D): a direction, so no division by the number
        centres, people = normalize(sums, dim=-1).to(device), people.to(device)
        with torch.autocast(device.type, enabled=False):  # a cosine needs more than eight bits
            pooled = normalize(aggregator(chosen.embeddings.to(device), chosen.present.to(device))[:, 0], dim=-1)  # (B, D)
            right = (pooled * own).sum(1)
            cosines = (pooled @ centres.T).scatter(1, people[:, None], right[:, None])  # (B, P)
            return self.contrast * cross_entropy(cosines / self.temperature, people) + (1 - right).mean()
