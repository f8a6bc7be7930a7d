"""The data types and interfaces of tenth.

Shape letters, the same in every file: K photos, D embedding dimension, M rows of an identity, T tokens of a photo,
B batch, N images, C H W channels, height, width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), RGB
FeatureArray = npt.NDArray[np.float64]  # (N, D)


@dataclass(frozen=True, eq=False)
class Face:
    """The position of a face, in pixels of its photo.

    box: left, top, right, bottom. landmarks: (5, 2) x and y in dlib's five-point order: outer and inner corner of the eye
    at the right of the image, outer and inner corner of the eye at its left, base of the nose.
    """

    box: tuple[int, int, int, int]
    landmarks: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Photo:
    """An opened photo: RGB pixels (H, W, 3) and the sha256 of the file it came from. `file` is for messages only."""

    pixels: Pixels
    digest: str
    file: str = ""
    face: Face | None = None


@dataclass(frozen=True, eq=False)
class Person:
    """Accepted photos of one person, in file-name order. The name is for messages; it never enters a prompt or an image."""

    name: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True, eq=False)
class Identity:
    """What a method learned of a person: image embeddings before projection, or weights, or both.

    embeddings: (M, D) pooled, or (M, T, D) patch tokens, as the model's adapter needs; or None.
    weights: tensors by name (LoRA or deltas to the base), empty for adapters.
    model, encoder, adapter: "name@digest" of those that made it, so that it is used with no other.
    trigger_phrase: how a prompt names the person ("" when the prompt need not). photos: sha256 of each photo used.
    """

    method: str
    model: str
    encoder: str
    adapter: str
    embeddings: Tensor | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    trigger_phrase: str = ""
    photos: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """One generated image (H, W, 3) and everything that reproduces it. sampler: A1111's name."""

    pixels: Pixels
    prompt: str
    seed: int
    method: str
    model: str
    settings: Mapping[str, Any]
    seconds: float
    sampler: str = "DDIM"


@dataclass(frozen=True)
class Score:
    """A metric's value with its 95 % interval over people. n: number of people, or of images if there is no interval.

    unavailable: why value is None. Name and direction of the metric are in evaluation/registry.py.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unavailable: str = ""


@dataclass(frozen=True, eq=False)
class Features:
    """Feature vectors (N, D) of one extractor, each with its person and prompt."""

    vectors: npt.NDArray[np.float64]
    people: tuple[str, ...]
    prompts: tuple[str, ...] = ()


class Encoder(Protocol):
    """K photos -> (K, D) pooled embeddings, or (K, T, D) patch tokens.

    name: "name@digest", part of every cache key and identity.
    embedding_dim: D. num_tokens: T; 0 if embeddings are pooled. null_embedding: (D,) or (T, D), the unconditional embedding.
    """

    name: str
    embedding_dim: int
    num_tokens: int

    def __call__(self, photos: Sequence[Photo]) -> Tensor: ...
    def null_embedding(self) -> Tensor: ...


class Aggregator(Protocol):
    """Embeddings of one person's photos, (K, D) or (K, T, D) -> (M, D) or (M, T, D)."""

    def __call__(self, embeddings: Tensor) -> Tensor: ...


class DiffusionModel(Protocol):
    """What a method may read of a model. name: "name@digest". trained_methods: folders of trained aggregators, by method.

    pipeline: of diffusers; prompt_encoder: prompts -> its text embeddings. Sampling and training leave both unchanged.
    """

    name: str
    pipeline: Any
    adapter_name: str
    encoder: Encoder
    trained_methods: Mapping[str, Path]
    prompt_encoder: Any

    def add_adapter(self, path: Path) -> str: ...

    def with_unconditional(self, embeddings: Tensor) -> Tensor: ...

    def applied(self, identities: Sequence[Identity]) -> AbstractContextManager[Tensor | None]: ...


class Method(Protocol):
    """Photos of a person -> Identity. Reads the model and leaves it unchanged.

    photo_weights: the weight of each photo, (K,), or None if the method has none. warnings: sentences about unused photos.
    """

    def __call__(self, person: Person, model: DiffusionModel) -> Identity: ...
    def photo_weights(self, person: Person, model: DiffusionModel) -> Tensor | None: ...
    def warnings(self, person: Person, model: DiffusionModel) -> list[str]: ...


class Metric(Protocol):
    """Features of images and of held-out photos -> a score with its interval."""

    def __call__(self, *, generated: Features, held_out: Features, references: Features | None = None) -> Score: ...


EntryValue = TypeVar("EntryValue")


@dataclass(frozen=True)
class Entry(Generic[EntryValue]):
    """A row of a registry: the value, and a line that says what it does."""

    value: EntryValue
    description: str
