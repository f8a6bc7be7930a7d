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

from tenth.core.cache import Array, Store
from tenth.core.console import progress
from tenth.core.errors import DataError
from tenth.core.types import Encoder
from tenth.data.degradations import VERSION, degraded
from tenth.data.face_crops import CENTRAL, CROPS, People, crops_of, square, to_unit
from tenth.data.face_descriptors import describe
from tenth.data.manifest import Row
from tenth.data.photo import open_photo
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.training.frozen_diffusion import Frozen, Texts

BATCH = 32  # of frozen encoders
OPENED = 8  # whole photos in memory at a time
MOST_CAPTIONS = 4  # variants of a photo's caption that are encoded


@dataclass(frozen=True, eq=False)
class Album:
    """N photos of P people; a person's photos stand together.

    moments: (N, 2, C', h, w), as it is and mirrored. embeddings, poor: (N, D), of the photo and of it made worse.
    captions: (N, V), rows of `texts`, whose first row is the empty prompt. first, count: (P,), where a person's photos are.
    """

    files: tuple[str, ...]
    moments: Tensor
    embeddings: Tensor
    poor: Tensor
    captions: Tensor
    texts: Texts
    first: Tensor
    count: Tensor

    @property
    def people(self) -> int:
        return len(self.first)


def open_album(people: People, least: int, encoder: Encoder, frozen: Frozen, store: Store) -> Album:
    """Every train person with at least `least` photos that the encoder can read. What is missing in the store is computed.

    Raises DataError if nobody has so many, or if a value is not finite.
    """
    rows = people.rows("train")
    embeddings = list(store.remember(space_of(encoder), [row.digest for row in rows], partial(read, people, rows, encoder)))
    usable = [index for index, array in enumerate(embeddings) if array.size]
    counts: dict[str, int] = {}
    for index in usable:
        counts[rows[index].person] = counts.get(rows[index].person, 0) + 1
    kept = [index for index in usable if counts[rows[index].person] >= least]
    check_counts(counts, least)
    rows = [rows[index] for index in kept]
    digests = [row.digest for row in rows]
    poor = store.remember_all(f"{space_of(encoder)}-poor-{VERSION}", digests, partial(read, people, rows, encoder, worse=True))
    texts, captions = encode_captions([row.captions[:MOST_CAPTIONS] for row in rows], frozen, store)
    first, count = runs([row.person for row in rows])
    album = Album(
        files=tuple(row.file for row in rows),
        moments=moments_of(people, rows, isinstance(encoder, FaceEncoder), frozen, store),
        embeddings=finished(encoder, np.stack([embeddings[index] for index in kept])),
        poor=finished(encoder, poor),
        captions=captions,
        texts=texts,
        first=first,
        count=count,
    )
    check_finite(album)
    return album


def space_of(encoder: Encoder) -> str:
    """Where the store keeps the encoder's values by the photo's sha256. Of a face encoder they are dlib's, not yet centred."""
    return f"{CENTRAL}-{encoder.name}"


def read(people: People, rows: Sequence[Row], encoder: Encoder, missing: list[int], *, worse: bool = False) -> Iterator[Array]:
    """What the encoder reads in each photo, empty where a face encoder finds no face. worse: of the photo made worse."""
    if isinstance(encoder, FaceEncoder):
        for index in progress(missing, desc="poor photos" if worse else "photos"):
            photo = people.located(rows[index])
            yield np.zeros(0) if photo is None else describe(degraded(photo) if worse else photo)
        return
    for batch in progress(torch.tensor(missing).split(OPENED), desc="poor photos" if worse else "photos"):
        photos = [open_photo(people.photos / rows[index].file) for index in batch.tolist()]
        yield from encoder([degraded(photo) if worse else photo for photo in photos]).numpy()


def finished(encoder: Encoder, arrays: Array) -> Tensor:
    """What `read` gave, (N, D), as the encoder gives it to an aggregator: float32."""
    values = torch.from_numpy(arrays).float()
    return encoder.standardised(values) if isinstance(encoder, FaceEncoder) else values


def moments_of(people: People, rows: Sequence[Row], faces: bool, frozen: Frozen, store: Store) -> Tensor:
    """Moments of each photo's frame and its mirror image (N, 2, C', h, w)."""

    def compute(missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(BATCH), desc="latents"):
            chosen = [rows[index] for index in batch.tolist()]
            if faces:
                frames = list(store.remember(CROPS, [row.digest for row in chosen], partial(crops_of, people, chosen)))
            else:
                frames = [square(open_photo(people.photos / row.file), frozen.pixels) for row in chosen]
            pixels = to_unit(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
            both = torch.stack([frozen.encode_pixels(pixels), frozen.encode_pixels(pixels.flip(-1))], 1)
            yield from both.float().cpu().numpy()

    space = f"moments-{CROPS if faces else f'square-{frozen.pixels}'}-{frozen.digest('vae')}"
    return torch.from_numpy(store.remember_all(space, [row.digest for row in rows], compute))


def encode_captions(captions: Sequence[Sequence[str]], frozen: Frozen, store: Store) -> tuple[Texts, Tensor]:
    """Each distinct caption once, the empty one first, and which rows belong to each photo (N, V); fewer variants repeat."""
    distinct = ["", *dict.fromkeys(caption for variants in captions for caption in variants if caption)]
    place = {caption: row for row, caption in enumerate(distinct)}
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in distinct]

    def compute(part: str, missing: list[int]) -> Iterator[Array]:
        for batch in progress(torch.tensor(missing).split(BATCH), desc="captions"):
            texts = frozen.encode_prompts([distinct[index] for index in batch.tolist()])
            values = getattr(texts, part)
            yield from values.float().cpu().numpy()

    parts: dict[str, Any] = {}
    for part in ("hidden", "pooled") if frozen.pools else ("hidden",):
        space = f"text-{part}-{frozen.digest('text_encoder', 'text_encoder_2')}"
        parts[part] = torch.from_numpy(store.remember_all(space, keys, partial(compute, part)))
    most = max(len(variants) for variants in captions)
    rows = [[place[variants[number % len(variants)]] for number in range(most)] for variants in captions]
    return Texts(**parts), torch.tensor(rows)


def runs(people: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(first, count) of the run of each person's rows, (P,) each. Raises DataError if a person stands in two places."""
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for index, person in enumerate(people):
        if first.setdefault(person, index) + count.get(person, 0) != index:
            raise DataError(
                f"the rows of {person} are not together", "a person's photos stand one after the other", "Sort them"
            )
        count[person] = count.get(person, 0) + 1
    return torch.tensor(list(first.values())), torch.tensor(list(count.values()))


def check_counts(counts: dict[str, int], least: int) -> None:
    """Raises DataError if nobody has `least` photos."""
    if not any(count >= least for count in counts.values()):
        most = max(counts.values(), default=0)
        raise DataError(
            f"of {len(counts)} train people with a usable photo none has more than {most}",
            f"at least {least} photos of a person are needed",
            "Add photos of each person, or lower the number of references",
        )


def check_finite(album: Album) -> None:
    """Raises DataError that names the first photo with NaN or infinity in what was read of it."""
    for name in ("moments", "embeddings", "poor"):
        odd = (~torch.isfinite(getattr(album, name)).flatten(1).all(1)).nonzero()
        if len(odd):
            raise DataError(
                f"{album.files[int(odd[0])]} has {name} that are not finite",
                "finite numbers are needed",
                "Check that photo, and remove the store's copy if the photo is sound",
            )
    if not torch.isfinite(album.texts.hidden).all():
        raise DataError("a caption's embedding is not finite", "finite numbers are needed", "Check the text encoder's weights")
