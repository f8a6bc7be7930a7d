"""What a training step of the pocket model's UNet reads: latents, embeddings and captions of photos, each computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenth.core.cache import Array, Store
from tenth.core.console import progress
from tenth.core.rng import Draws
from tenth.data.captions.prompt_parser import asked_for
from tenth.data.face_crops import CROPS, Faces, to_unit
from tenth.data.face_descriptors import encoder_name
from tenth.models.encoders.dlib_resnet import chips_of, open_dlib_net
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.training.frozen_diffusion import weights_digest
from tenth.training.pocket.augmentation import KINDS, Augment


@dataclass(frozen=True)
class Dropout:
    """Shares of training in which a condition is missing, so that guidance and the model without adapter are learnt."""

    base: float = 0.3  # of the steps run without the adapter at all
    both: float = 0.1  # of the images lose text and image
    image: float = 0.05  # only the image
    text: float = 0.1  # only the text
    own: float = 0.5  # of the images are described by their own embedding, the others by another photo of the person
    several: float = 0.0  # of those others by all other photos of the person, their mean with the photos' norm restored


@dataclass(frozen=True, eq=False)
class Changed:
    """Latents of photos that are changed anew in each step.

    pictures: photos by number (B,) and whether mirrored (B,) -> (B, 3, H, W) in [-1, 1].
    """

    pictures: Callable[[Tensor, Tensor], Tensor]
    encoder: nn.Module
    augment: Augment

    @torch.no_grad()
    def __call__(self, latents: Tensor, indices: Tensor, mirrored: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The latents (B, 8, h, w) of a batch, those of a share of it replaced; how each was changed, (B, KINDS)."""
        chosen = draws.uniform() < self.augment.share
        amounts = (2 * draws.uniform(KINDS) - 1) * chosen[:, None]
        latents, (places,) = latents.clone(), torch.where(chosen)
        if len(places):
            pictures = self.pictures(indices[places], mirrored[places])
            latents[places] = self.encoder(self.augment(pictures, amounts[places].to(pictures.device))).to(latents)
        return latents, amounts


@dataclass(frozen=True, eq=False)
class Examples:
    """Everything a training step reads, in memory. others: for each photo the first and number of its person's photos."""

    latents: Tensor  # (N, 2, 8, 16, 16): as it is, and mirrored
    embeddings: Tensor  # (N, 128)
    tokens: Tensor  # (N, V, T): V captions of each photo
    others: Tensor  # (N, 2)
    several: Tensor  # (N, 128): of each photo's person, without that photo
    changed: Changed | None = None  # where photos are changed

    def references(self, indices: Tensor, drop: Dropout, draws: Draws) -> Tensor:
        """Embeddings (B, 1, 128): of the photo itself with probability `own`, else of others of the person, if any."""
        first, number = self.others[indices].unbind(1)
        shift = 1 + (draws.uniform() * (number - 1)).long()
        other = first + (indices - first + shift) % number
        itself = draws.uniform() < drop.own
        found = self.embeddings[torch.where(itself, indices, other)]
        if drop.several:
            found = torch.where((~itself & (draws.uniform() < drop.several))[:, None], self.several[indices], found)
        return found[:, None]


def repeated(captions: Sequence[str], rare: float) -> Tensor:
    """Photos by number, in order, those with a rare sign several times: (M,), M >= N.

    A sign that a share f < `rare` of the captions say counts sqrt(rare / f) times, the rarest of a photo decides. Source: Gupta
    et al. 2019, LVIS, arXiv:1908.03195, section 5.2.
    """
    said = [{sign for sign, wanted in asked_for(caption).items() if wanted} for caption in captions]
    counts = Counter(sign for signs in said for sign in signs)
    factors = [max([1.0, *((rare * len(said) / counts[sign]) ** 0.5 for sign in signs)]) for signs in said]
    # A running sum turns fractions into whole numbers without chance: 1.5 and 1.5 become 1 and 2.
    ends = torch.tensor(factors, dtype=torch.float64).cumsum(0).floor().long()
    return torch.repeat_interleave(torch.arange(len(said)), ends.diff(prepend=torch.zeros(1, dtype=torch.long)))


@torch.no_grad()
def descriptors_of(faces: Faces, store: Store) -> Tensor:
    """dlib's descriptors (N, 128) of the crops, each computed once; those of the photos are about 0.04 away."""
    net = open_dlib_net()

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(32), desc="embeddings"):
            yield from net(chips_of(to_unit(faces.crops[batch]))).numpy()

    return torch.from_numpy(store.remember_all(f"{CROPS}-{encoder_name()}", [row.digest for row in faces.rows], compute))


@torch.no_grad()
def latents_of(faces: Faces, model: PocketAutoencoder, store: Store) -> Tensor:
    """Latents (N, 2, 8, 16, 16) of each crop and its mirror image. They are the encoder's, whatever decoder is beside it."""

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(32), desc="latents"):
            pixels = to_unit(faces.crops[batch])
            yield from torch.stack([model.encoder(pixels), model.encoder(pixels.flip(-1))], 1).numpy()

    space = f"latents-{weights_digest(model.encoder)}"
    return torch.from_numpy(store.remember_all(space, [row.digest for row in faces.rows], compute))


def others_of(people: Sequence[str]) -> Tensor:
    """(first, number) of the run of each person's photos; people.jsonl keeps a person's photos together: (N, 2)."""
    firsts: dict[str, int] = {}
    counts: dict[str, int] = {}
    for index, person in enumerate(people):
        firsts.setdefault(person, index)
        counts[person] = counts.get(person, 0) + 1
    return torch.tensor([(firsts[person], counts[person]) for person in people])


def means_of_others(embeddings: Tensor, others: Tensor) -> Tensor:
    """For each photo the mean of the person's others, as long as they are on average, or itself where it is alone: (N, 128)."""
    found = embeddings.clone()
    for first, number in others.unique(dim=0).tolist():
        if number > 1:
            rows = embeddings[first : first + number]
            means = (rows.sum(0) - rows) / (number - 1)
            lengths = rows.norm(dim=1)
            wanted = (lengths.sum() - lengths) / (number - 1)
            found[first : first + number] = means * (wanted / means.norm(dim=1).clamp(min=1e-6))[:, None]
    return found
