"""Features of images: an image is decoded once, and its features are computed once and cached by its content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol
from urllib.parse import quote

import numpy as np

from tenth.core.cache import Array, ArrayCache, default_cache_dir, image_hash
from tenth.core.types import FeatureArray, Pixels


class Extractor(Protocol):
    """N images (H, W, 3) -> (N, feature_dim) float64; NaN rows where there is nothing to extract.

    name: "name@digest", where the digest covers all that a row depends on (weights, preprocessing): the cache's key.
    """

    name: str
    feature_dim: int

    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray: ...


def extract_features(
    images: Iterable[Pixels], extractors: Sequence[Extractor], store: ArrayCache, batch: int = 32
) -> dict[str, FeatureArray]:
    """The features (N, feature_dim) of N images, by extractor's name, in order. N may be 0.

    At most two times `batch` images are in memory. An extractor sees only images that are not in the cache, equal ones once.
    """
    rows = {extractor.name: bytearray() for extractor in extractors}  # grows in place, where joining arrays would copy them
    for chunk in _batches(images, batch):
        keys = [image_hash(image) for image in chunk]
        by_hash = dict(zip(keys, chunk, strict=True))
        for extractor in extractors:
            cached = _cached_features(by_hash, extractor, store)
            rows[extractor.name] += np.stack([cached[key] for key in keys]).astype(np.float64).tobytes()
    return {
        extractor.name: np.frombuffer(rows[extractor.name], np.float64).reshape(-1, extractor.feature_dim)
        for extractor in extractors
    }


def extract_cached(images: Iterable[Pixels], extractor: Extractor) -> FeatureArray:
    """The features (N, feature_dim) of N images, cached for all experiments."""
    return extract_features(images, [extractor], ArrayCache(default_cache_dir()))[extractor.name]


def _batches(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch


def _cached_features(by_hash: dict[str, Pixels], extractor: Extractor, store: ArrayCache) -> dict[str, Array]:
    keys = list(by_hash)

    def compute(missing: list[int]) -> Iterator[Array]:
        return map(compact_dtype, extractor([by_hash[keys[place]] for place in missing]))

    namespace = quote(extractor.name, safe="@")  # a folder's name, and a recognizer's is the user's own text
    return dict(zip(keys, store.get_or_compute(namespace, keys, compute), strict=True))


def compact_dtype(row: FeatureArray) -> Array:
    """A row, or rows, in single precision where nothing is lost by it: networks compute in it, and files are half as large."""
    single = row.astype(np.float32)
    return single if np.array_equal(single, row, equal_nan=True) else row
