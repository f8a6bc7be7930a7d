"""One person's photos for fine-tuning: to train on, held out, and what an adapter is given of the others beside each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from tenth.core.types import DiffusionModel, Identity, Method, Person, Photo
from tenth.models.adapters.adapter_scale import AdapterScale

MIN_TRAIN_PHOTOS = 4  # photos that stay for training, where some are held out


@dataclass(frozen=True, eq=False)
class TrainingPhotos:
    """Photos to train on and photos held out, each once, in the order of their digests.

    identities: what an adapter makes of the other training photos, one for each of them; () without an adapter.
    together: what it makes of all training photos; None without an adapter.
    """

    training: Sequence[Photo]
    held_out: Sequence[Photo] = ()
    identities: Sequence[Identity] = ()
    together: Identity | None = None

    @property
    def parts(self) -> tuple[Sequence[Photo], Sequence[Photo]]:
        """Those to train on, and those held out."""
        return self.training, self.held_out

    @property
    def fingerprints(self) -> list[str]:
        """Of all that the adapter is given, for the key under which the weights are cached; [] without an adapter."""
        return [each.fingerprint for each in (*self.identities, *filter(None, [self.together]))]


def split_photos(photos: Sequence[Photo], num_held_out: int) -> TrainingPhotos:
    """The first of these photos held out, where enough others stay."""
    if len(photos) - num_held_out < MIN_TRAIN_PHOTOS:
        num_held_out = 0
    return TrainingPhotos(photos[num_held_out:], photos[:num_held_out])


def with_identities(split: TrainingPhotos, person: Person, adapter: Method, model: DiffusionModel) -> TrainingPhotos:
    """The same photos with their identities by an adapter's method, leave-one-out, so that none shows the photo to be learnt.

    Of a single photo it is that photo's. The adapter gets photos in the person's order. Raises what the adapter raises.
    """
    unique = {photo.digest: photo for photo in person.photos}
    training = {photo.digest for photo in split.training}

    def identity_of(digests: set[str]) -> Identity:
        chosen = tuple(photo for digest, photo in unique.items() if digest in digests)
        return adapter(Person(person.name, chosen), model).identity

    together = identity_of(training)
    identities = [identity_of(training - {photo.digest} or training) for photo in split.training]
    return TrainingPhotos(split.training, split.held_out, identities, together)


@contextmanager
def adapter_on(model: DiffusionModel, split: TrainingPhotos, scale: AdapterScale) -> Iterator[Tensor | None]:
    """The adapter that read the photos, in the UNet until the block ends, at this scale. Without one nothing changes.

    Gives what it reads beside each photo and, the last, beside class images: (K + 1, M, D) or (K + 1, M, T, D); or None.
    """
    with model.applied(split.identities, torch_only=True) if split.identities else nullcontext() as embeddings:
        if embeddings is None:
            yield None
            return
        model.set_adapter_scale(scale)
        yield torch.cat([embeddings, model.unconditional_like(embeddings[:1])])


def sorted_unique(photos: Sequence[Photo]) -> list[Photo]:
    """Each photo once, in the order of the digests: neither the order of files nor copies change the result."""
    return sorted({photo.digest: photo for photo in photos}.values(), key=lambda photo: photo.digest)
