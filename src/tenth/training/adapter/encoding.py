"""What the frozen encoders of an adapter's training compute of photos and of their captions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenth.core.cache import Array, ArrayCache
from tenth.core.console import track
from tenth.core.types import Encoder
from tenth.data.degradations import DEGRADATION_VERSION, degrade
from tenth.data.faces.crops import CENTRAL_FACE, CROPS_NAMESPACE, PhotoDataset, center_crop, compute_crops, to_minus_one_one
from tenth.data.manifest import ManifestEntry
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.adapter.dataset import AdapterDataset, EncodedPhotos, check_counts, check_finite, person_spans
from tenth.training.flow_matching.frozen_model import FrozenModel
from tenth.training.flow_matching.frozen_transformer import TEXT_ENCODERS

BATCH = 32  # images or captions per call of a frozen encoder
PHOTO_BATCH = 8  # whole photos in memory at a time
MAX_CAPTIONS = 4  # encoded captions per photo


def build_dataset(
    people: PhotoDataset, min_photos: int, encoder: Encoder, frozen: FrozenModel, cache: ArrayCache
) -> AdapterDataset:
    """Every training person with `min_photos` readable photos. Raises DataError if nobody has, or a value is not finite."""
    photos, num_readable = encode_people(people, people.entries("train"), min_photos, encoder, frozen, cache)
    if photos is None:
        check_counts(torch.tensor(list(num_readable.values())), min_photos)
    assert photos is not None
    return AdapterDataset.in_memory(photos)


def encode_people(
    people: PhotoDataset,
    entries: Sequence[ManifestEntry],
    min_photos: int,
    encoder: Encoder,
    frozen: FrozenModel,
    cache: ArrayCache,
) -> tuple[EncodedPhotos | None, Counter[str]]:
    """The people of some rows who have `min_photos` readable photos, None for nobody; everybody's number of readable photos.

    Raises DataError if a person's rows are not together, or a value is not finite.
    """
    # Keep people with enough readable photos.
    namespace, digests = cache_namespace(encoder), [entry.digest for entry in entries]
    encoded = list(cache.get_or_compute(namespace, digests, partial(encode_photos, people, entries, encoder)))
    readable = [index for index, embedding in enumerate(encoded) if embedding.size]
    num_readable = Counter(entries[index].person for index in readable)
    kept = [index for index in readable if num_readable[entries[index].person] >= min_photos]
    if not kept:
        return None, num_readable
    entries, digests = [entries[index] for index in kept], [digests[index] for index in kept]

    # Embeddings of their photos, degraded ones too, captions and latents.
    embed_degraded = partial(encode_photos, people, entries, encoder, use_degraded=True)
    degraded = cache.get_or_compute_stacked(f"{namespace}-poor-{DEGRADATION_VERSION}", digests, embed_degraded)
    captions = [entry.captions[:MAX_CAPTIONS] for entry in entries]
    prompt_embeddings, caption_indices = encode_captions(captions, frozen, cache)
    _, num_photos = person_spans([entry.person for entry in entries])
    num_captions = torch.tensor([len(variants) for variants in captions]).split(num_photos.tolist())
    photos = EncodedPhotos(
        latent_moments=compute_latent_moments(people, entries, encoder.crops_faces, frozen, cache),
        embeddings=encoder.standardize(torch.from_numpy(np.stack([encoded[index] for index in kept]))),
        degraded_embeddings=encoder.standardize(torch.from_numpy(degraded)),
        caption_indices=caption_indices,
        prompt_embeddings=prompt_embeddings,
        num_photos=num_photos,
        num_captions=torch.stack([counts.max() for counts in num_captions]),
    )
    check_finite(photos, [entry.file for entry in entries])
    return photos, num_readable


@contextmanager
def on_device(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """An encoder that is a network on the device while photos are encoded, and off it before training needs the memory."""
    if isinstance(encoder, nn.Module):
        encoder.to(device)
    try:
        yield
    finally:
        if isinstance(encoder, nn.Module):
            encoder.cpu()


def compute_in_batches(
    cache: ArrayCache, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]], name: str
) -> Tensor:
    """Arrays through the cache, (N, ...). compute: positions of a batch of keys -> theirs. name: for the progress bar."""

    def compute_missing(missing: list[int]) -> Iterator[Array]:
        for batch in track(torch.tensor(missing).split(BATCH), name, "batch"):
            yield from compute(batch.tolist())

    return torch.from_numpy(cache.get_or_compute_stacked(namespace, keys, compute_missing))


def cache_namespace(encoder: Encoder) -> str:
    """Where the cache keeps the encoder's embeddings, by the photo's sha256. A face encoder's are not yet standardized."""
    return f"{CENTRAL_FACE}-{encoder.name}"


def encode_photos(
    people: PhotoDataset, entries: Sequence[ManifestEntry], encoder: Encoder, missing: list[int], *, use_degraded: bool = False
) -> Iterator[Array]:
    """The embedding of each photo, empty where a face encoder finds no face. use_degraded: of the degraded photo."""
    name, prepare = ("degraded photos", degrade) if use_degraded else ("photos", lambda photo: photo)
    if encoder.crops_faces:
        for index in track(missing, name, "photo"):
            photo = people.open_with_central_face(entries[index])
            yield np.zeros(0) if photo is None else encoder.raw_embeddings([prepare(photo)])[0].numpy()
        return
    for batch in track(torch.tensor(missing).split(PHOTO_BATCH), name, "batch"):
        photos = [people.open(entries[index]) for index in batch.tolist()]
        yield from encoder.raw_embeddings([prepare(photo) for photo in photos]).numpy()


def compute_latent_moments(
    people: PhotoDataset, entries: Sequence[ManifestEntry], crop_faces: bool, frozen: FrozenModel, cache: ArrayCache
) -> Tensor:
    """Moments of each photo's crop and its mirror image, (N, 2, C', h, w). crop_faces: aligned faces, else center crops."""

    def compute(indices: list[int]) -> Array:
        selected = [entries[index] for index in indices]
        if crop_faces:
            digests = [entry.digest for entry in selected]
            crops = list(cache.get_or_compute(CROPS_NAMESPACE, digests, partial(compute_crops, people, selected)))
        else:
            crops = [center_crop(people.open(entry), frozen.resolution) for entry in selected]
        pixels = to_minus_one_one(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
        return frozen.encode_with_flip(pixels).numpy()

    framing = CROPS_NAMESPACE if crop_faces else f"square-{frozen.resolution}"
    namespace = f"moments-{framing}-{frozen.digest('vae')}"
    return compute_in_batches(cache, namespace, [entry.digest for entry in entries], compute, "latents")


def encode_captions(
    captions: Sequence[Sequence[str]], frozen: FrozenModel, cache: ArrayCache
) -> tuple[PromptEmbeddings, Tensor]:
    """Each distinct caption once, the empty one first, and the rows of each photo's captions (N, MAX_CAPTIONS); few repeat."""
    unique_captions = ["", *dict.fromkeys(caption for variants in captions for caption in variants if caption)]
    caption_index = {caption: row for row, caption in enumerate(unique_captions)}
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in unique_captions]

    def compute(part: str, indices: list[int]) -> Array:
        embeddings = frozen.encode_prompts([unique_captions[index] for index in indices])
        values: Array = getattr(embeddings, part).float().cpu().numpy()
        return values

    parts: dict[str, Any] = {}
    for part in ("hidden", "pooled") if frozen.has_pooled_text else ("hidden",):
        namespace = f"text-{part}-{frozen.digest(*TEXT_ENCODERS)}"
        parts[part] = compute_in_batches(cache, namespace, keys, partial(compute, part), "captions")
    indices = [[caption_index[variants[number % len(variants)]] for number in range(MAX_CAPTIONS)] for variants in captions]
    return PromptEmbeddings(**parts), torch.tensor(indices)
