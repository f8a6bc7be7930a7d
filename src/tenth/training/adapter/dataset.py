"""The data set of an adapter's training: what every frozen encoder computes of the photos, once, through the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
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
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.frozen_diffusion import FrozenDiffusion

BATCH = 32  # images or captions per call of a frozen encoder
PHOTO_BATCH = 8  # whole photos in memory at a time
MAX_CAPTIONS = 4  # encoded captions per photo


@dataclass(frozen=True, eq=False)
class AdapterDataset:
    """N photos of P people; a person's photos are consecutive.

    latent_moments: (N, 2, C', h, w), of each photo and its mirror image. embeddings, degraded_embeddings: (N, D).
    caption_indices: (N, V), rows of `prompt_embeddings`, whose first row is the empty prompt.
    first_photo, num_photos: (P,), each person's span of photos.
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
    """Every training person with `min_photos` readable photos. Raises DataError if nobody has, or a value is not finite."""
    # Keep people with enough readable photos.
    entries, namespace = people.entries("train"), cache_namespace(encoder)
    digests = [entry.digest for entry in entries]
    encoded = list(cache.get_or_compute(namespace, digests, partial(encode_photos, people, entries, encoder)))
    readable = [index for index, embedding in enumerate(encoded) if embedding.size]
    photo_counts = Counter(entries[index].person for index in readable)
    check_counts(photo_counts, min_photos)
    kept = [index for index in readable if photo_counts[entries[index].person] >= min_photos]
    entries, digests = [entries[index] for index in kept], [digests[index] for index in kept]

    # Embeddings of their photos, degraded ones too, captions and latents.
    embed_degraded = partial(encode_photos, people, entries, encoder, use_degraded=True)
    degraded = cache.get_or_compute_stacked(f"{namespace}-poor-{DEGRADATION_VERSION}", digests, embed_degraded)
    prompt_embeddings, caption_indices = encode_captions([entry.captions[:MAX_CAPTIONS] for entry in entries], frozen, cache)
    first_photo, num_photos = person_spans([entry.person for entry in entries])
    dataset = AdapterDataset(
        files=tuple(entry.file for entry in entries),
        latent_moments=compute_latent_moments(people, entries, encoder.crops_faces, frozen, cache),
        embeddings=encoder.standardize(torch.from_numpy(np.stack([encoded[index] for index in kept]))),
        degraded_embeddings=encoder.standardize(torch.from_numpy(degraded)),
        caption_indices=caption_indices,
        prompt_embeddings=prompt_embeddings,
        first_photo=first_photo,
        num_photos=num_photos,
    )
    check_finite(dataset)
    return dataset


def compute_in_batches(
    cache: ArrayCache, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]], name: str
) -> Tensor:
    """Arrays through the cache, (N, ...). compute: positions of a batch of keys -> theirs. name: for the progress bar."""

    def compute_missing(missing: list[int]) -> Iterator[Array]:
        for batch in track(torch.tensor(missing).split(BATCH), name):
            yield from compute(batch.tolist())

    return torch.from_numpy(cache.get_or_compute_stacked(namespace, keys, compute_missing))


def cache_namespace(encoder: Encoder) -> str:
    """Where the cache keeps the encoder's embeddings, by the photo's sha256. A face encoder's are not yet standardized."""
    return f"{CENTRAL_FACE}-{encoder.name}"


def encode_photos(
    people: PhotoDataset, entries: Sequence[ManifestEntry], encoder: Encoder, missing: list[int], *, use_degraded: bool = False
) -> Iterator[Array]:
    """The embedding of each photo, empty where a face encoder finds no face. use_degraded: of the degraded photo."""
    name, prepare = ("poor photos", degrade) if use_degraded else ("photos", lambda photo: photo)
    if encoder.crops_faces:
        for index in track(missing, name):
            photo = people.open_with_central_face(entries[index])
            yield np.zeros(0) if photo is None else encoder.raw_embeddings([prepare(photo)])[0].numpy()
        return
    for batch in track(torch.tensor(missing).split(PHOTO_BATCH), name):
        photos = [open_photo(people.photos / entries[index].file) for index in batch.tolist()]
        yield from encoder.raw_embeddings([prepare(photo) for photo in photos]).numpy()


def compute_latent_moments(
    people: PhotoDataset, entries: Sequence[ManifestEntry], crop_faces: bool, frozen: FrozenDiffusion, cache: ArrayCache
) -> Tensor:
    """Moments of each photo's crop and its mirror image, (N, 2, C', h, w). crop_faces: aligned faces, else center crops."""

    def compute(indices: list[int]) -> Array:
        selected = [entries[index] for index in indices]
        if crop_faces:
            digests = [entry.digest for entry in selected]
            crops = list(cache.get_or_compute(CROPS_NAMESPACE, digests, partial(compute_crops, people, selected)))
        else:
            crops = [center_crop(open_photo(people.photos / entry.file), frozen.resolution) for entry in selected]
        pixels = to_minus_one_one(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
        return frozen.encode_with_flip(pixels).numpy()

    framing = CROPS_NAMESPACE if crop_faces else f"square-{frozen.resolution}"
    namespace = f"moments-{framing}-{frozen.digest('vae')}"
    return compute_in_batches(cache, namespace, [entry.digest for entry in entries], compute, "latents")


def encode_captions(
    captions: Sequence[Sequence[str]], frozen: FrozenDiffusion, cache: ArrayCache
) -> tuple[PromptEmbeddings, Tensor]:
    """Each distinct caption once, the empty one first, and the rows of each photo's captions (N, V); fewer than V repeat."""
    unique_captions = ["", *dict.fromkeys(caption for variants in captions for caption in variants if caption)]
    caption_index = {caption: row for row, caption in enumerate(unique_captions)}
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in unique_captions]

    def compute(part: str, indices: list[int]) -> Array:
        embeddings = frozen.encode_prompts([unique_captions[index] for index in indices])
        values: Array = getattr(embeddings, part).float().cpu().numpy()
        return values

    parts: dict[str, Any] = {}
    for part in ("hidden", "pooled") if frozen.has_pooled_text else ("hidden",):
        namespace = f"text-{part}-{frozen.digest('text_encoder', 'text_encoder_2')}"
        parts[part] = compute_in_batches(cache, namespace, keys, partial(compute, part), "captions")
    max_variants = max(len(variants) for variants in captions)
    indices = [[caption_index[variants[number % len(variants)]] for number in range(max_variants)] for variants in captions]
    return PromptEmbeddings(**parts), torch.tensor(indices)


def person_spans(people: Sequence[str]) -> tuple[Tensor, Tensor]:
    """First photo and number of photos of each person, (P,) each. Raises DataError unless people (N,) are consecutive."""
    runs = [(person, len(list(photos))) for person, photos in groupby(people)]
    names, counts = [person for person, _ in runs], torch.tensor([count for _, count in runs], dtype=torch.long)
    if len(set(names)) < len(names):
        ((person, _),) = Counter(names).most_common(1)
        raise DataError(f"the rows of {person} are not together", "a person's photos stand one after the other", "Sort them")
    return counts.cumsum(0) - counts, counts


def check_counts(photo_counts: Mapping[str, int], min_photos: int) -> None:
    """Raises DataError if nobody has `min_photos` photos."""
    most = max(photo_counts.values(), default=0)
    if most < min_photos:
        found = f"of {len(photo_counts)} train people with a usable photo none has more than {most}"
        action = "Add photos of each person, or lower the number of references"
        raise DataError(found, f"at least {min_photos} photos of a person are needed", action)


def check_finite(dataset: AdapterDataset) -> None:
    """Raises DataError, which names the first photo, if a value computed of photos or captions is not finite."""
    for name in ("latent_moments", "embeddings", "degraded_embeddings"):
        not_finite = (~torch.isfinite(getattr(dataset, name)).flatten(1).all(1)).nonzero()
        if len(not_finite):
            found = f"{dataset.files[int(not_finite[0])]} has {name} that are not finite"
            raise DataError(found, "finite numbers are needed", "Check that photo, and empty the cache if the photo is sound")
    if not torch.isfinite(dataset.prompt_embeddings.hidden).all():
        raise DataError("a caption's embedding is not finite", "finite numbers are needed", "Check the text encoder's weights")
