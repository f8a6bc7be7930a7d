"""Photos of many people as the training of an adapter reads them: every frozen encoder has run once, through the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import Array, ArrayCache
from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.types import Encoder
from tenth.data.degradations import DEGRADATION_VERSION, degrade
from tenth.data.faces.crops import CENTRAL_FACE, CROPS_NAMESPACE, PhotoDataset, center_crop, compute_crops, to_minus_one_one
from tenth.data.manifest import ManifestEntry
from tenth.data.photo import open_photo
from tenth.training.frozen_diffusion import FrozenDiffusion, PromptEmbeddings

BATCH = 32  # of frozen encoders
PHOTO_BATCH = 8  # whole photos in memory at a time
MAX_CAPTIONS = 4  # variants of a photo's caption that are encoded


@dataclass(frozen=True, eq=False)
class AdapterDataset:
    """N photos of P people; a person's photos stand together.

    latent_moments: (N, 2, C', h, w), as it is and mirrored. embeddings, degraded_embeddings: (N, D).
    caption_indices: (N, V), rows of `prompt_embeddings`, whose first row is the empty prompt.
    first_photo, num_photos: (P,), where a person's photos are.
    """

    files: tuple[str, ...]
    latent_moments: Tensor
    embeddings: Tensor
    degraded_embeddings: Tensor
    caption_indices: Tensor
    prompt_embeddings: PromptEmbeddings
    first_photo: Tensor
    num_photos: Tensor

    @property
    def num_people(self) -> int:
        return len(self.first_photo)


def build_dataset(
    people: PhotoDataset, min_photos: int, encoder: Encoder, frozen: FrozenDiffusion, cache: ArrayCache
) -> AdapterDataset:
    """Every train person with at least `min_photos` photos that the encoder can read. What is missing in the store is computed.

    Raises DataError if nobody has so many, or if a value is not finite.
    """
    entries = people.entries("train")
    embeddings = list(
        cache.get_or_compute(
            cache_namespace(encoder), [row.digest for row in entries], partial(encode_photos, people, entries, encoder)
        )
    )
    readable = [index for index, array in enumerate(embeddings) if array.size]
    photo_counts: dict[str, int] = {}
    for index in readable:
        photo_counts[entries[index].person] = photo_counts.get(entries[index].person, 0) + 1
    kept = [index for index in readable if photo_counts[entries[index].person] >= min_photos]
    check_counts(photo_counts, min_photos)
    entries = [entries[index] for index in kept]
    digests = [row.digest for row in entries]
    degraded_embeddings = cache.get_or_compute_stacked(
        f"{cache_namespace(encoder)}-poor-{DEGRADATION_VERSION}",
        digests,
        partial(encode_photos, people, entries, encoder, use_degraded=True),
    )
    prompt_embeddings, caption_indices = encode_captions([row.captions[:MAX_CAPTIONS] for row in entries], frozen, cache)
    first_photo, num_photos = person_spans([row.person for row in entries])
    dataset = AdapterDataset(
        files=tuple(row.file for row in entries),
        latent_moments=compute_latent_moments(people, entries, encoder.crops_faces, frozen, cache),
        embeddings=encoder.standardize(torch.from_numpy(np.stack([embeddings[index] for index in kept]))),
        degraded_embeddings=encoder.standardize(torch.from_numpy(degraded_embeddings)),
        caption_indices=caption_indices,
        prompt_embeddings=prompt_embeddings,
        first_photo=first_photo,
        num_photos=num_photos,
    )
    check_finite(dataset)
    return dataset


def cache_namespace(encoder: Encoder) -> str:
    """Where the store keeps the encoder's values by the photo's sha256. Of a face encoder they are dlib's, not yet centred."""
    return f"{CENTRAL_FACE}-{encoder.name}"


def encode_photos(
    people: PhotoDataset, entries: Sequence[ManifestEntry], encoder: Encoder, missing: list[int], *, use_degraded: bool = False
) -> Iterator[Array]:
    """What the encoder reads in each photo, empty where a face encoder finds no face. use_degraded: of the photo made worse."""
    if encoder.crops_faces:
        for index in track(missing, "poor photos" if use_degraded else "photos"):
            photo = people.open_with_central_face(entries[index])
            if photo is None:
                yield np.zeros(0)
            else:
                yield encoder.raw_embeddings([degrade(photo) if use_degraded else photo])[0].numpy()
        return
    for batch in track(torch.tensor(missing).split(PHOTO_BATCH), "poor photos" if use_degraded else "photos"):
        photos = [open_photo(people.photos / entries[index].file) for index in batch.tolist()]
        yield from encoder.raw_embeddings([degrade(photo) if use_degraded else photo for photo in photos]).numpy()


def compute_latent_moments(
    people: PhotoDataset, entries: Sequence[ManifestEntry], crop_faces: bool, frozen: FrozenDiffusion, cache: ArrayCache
) -> Tensor:
    """Moments of each photo's frame and its mirror image (N, 2, C', h, w)."""

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in track(torch.tensor(missing).split(BATCH), "latents"):
            chosen = [entries[index] for index in batch.tolist()]
            if crop_faces:
                frames = list(
                    cache.get_or_compute(
                        CROPS_NAMESPACE, [row.digest for row in chosen], partial(compute_crops, people, chosen)
                    )
                )
            else:
                frames = [center_crop(open_photo(people.photos / row.file), frozen.resolution) for row in chosen]
            pixels = to_minus_one_one(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
            yield from frozen.encode_with_flip(pixels).numpy()

    namespace = f"moments-{CROPS_NAMESPACE if crop_faces else f'square-{frozen.resolution}'}-{frozen.digest('vae')}"
    return torch.from_numpy(cache.get_or_compute_stacked(namespace, [row.digest for row in entries], compute))


def encode_captions(
    captions: Sequence[Sequence[str]], frozen: FrozenDiffusion, cache: ArrayCache
) -> tuple[PromptEmbeddings, Tensor]:
    """Each distinct caption once, the empty one first, and which rows belong to each photo (N, V); fewer variants repeat."""
    unique_captions = ["", *dict.fromkeys(caption for variants in captions for caption in variants if caption)]
    caption_index = {caption: row for row, caption in enumerate(unique_captions)}
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in unique_captions]

    def compute(part: str, missing: list[int]) -> Iterator[Array]:
        for batch in track(torch.tensor(missing).split(BATCH), "captions"):
            texts = frozen.encode_prompts([unique_captions[index] for index in batch.tolist()])
            values = getattr(texts, part)
            yield from values.float().cpu().numpy()

    parts: dict[str, Any] = {}
    for part in ("hidden", "pooled") if frozen.has_pooled_text else ("hidden",):
        namespace = f"text-{part}-{frozen.digest('text_encoder', 'text_encoder_2')}"
        parts[part] = torch.from_numpy(cache.get_or_compute_stacked(namespace, keys, partial(compute, part)))
    max_variants = max(len(variants) for variants in captions)
    indices = [[caption_index[variants[number % len(variants)]] for number in range(max_variants)] for variants in captions]
    return PromptEmbeddings(**parts), torch.tensor(indices)


def person_spans(people: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(first, count) of the run of each person's rows, (P,) each. Raises DataError if a person stands in two places."""
    first_photo: dict[str, int] = {}
    num_photos: dict[str, int] = {}
    for index, person in enumerate(people):
        if first_photo.setdefault(person, index) + num_photos.get(person, 0) != index:
            raise DataError(
                f"the rows of {person} are not together", "a person's photos stand one after the other", "Sort them"
            )
        num_photos[person] = num_photos.get(person, 0) + 1
    return torch.tensor(list(first_photo.values())), torch.tensor(list(num_photos.values()))


def check_counts(photo_counts: dict[str, int], min_photos: int) -> None:
    """Raises DataError if nobody has `min_photos` photos."""
    if not any(count >= min_photos for count in photo_counts.values()):
        max_count = max(photo_counts.values(), default=0)
        raise DataError(
            f"of {len(photo_counts)} train people with a usable photo none has more than {max_count}",
            f"at least {min_photos} photos of a person are needed",
            "Add photos of each person, or lower the number of references",
        )


def check_finite(dataset: AdapterDataset) -> None:
    """Raises DataError that names the first photo with NaN or infinity in what was read of it."""
    for name in ("latent_moments", "embeddings", "degraded_embeddings"):
        not_finite = (~torch.isfinite(getattr(dataset, name)).flatten(1).all(1)).nonzero()
        if len(not_finite):
            raise DataError(
                f"{dataset.files[int(not_finite[0])]} has {name} that are not finite",
                "finite numbers are needed",
                "Check that photo, and remove the store's copy if the photo is sound",
            )
    if not torch.isfinite(dataset.prompt_embeddings.hidden).all():
        raise DataError("a caption's embedding is not finite", "finite numbers are needed", "Check the text encoder's weights")
