"""The data types and protocols that the packages exchange.

Shape letters, the same in every file: K photos, D embedding dimension, M rows of an identity, T tokens of a photo,
B batch, N images, C H W channels, height, width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.files.tensors import tensors_digest

if TYPE_CHECKING:  # opening photos and listing people need no torch
    import torch
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), RGB
MAX_PHOTO_WEIGHT = 100
DEFAULT_HIRES_STRENGTH = 0.3  # share of the noise with which larger images, and faces, are denoised again
FeatureArray = npt.NDArray[np.float64]  # (N, D)


@dataclass(frozen=True, eq=False)
class Face:
    """Where a face is in its photo, in pixels.

    box: left, top, right, bottom. landmarks: (5, 2) x and y in dlib's five-point order: outer and inner corner of the eye
    at the right of the image, outer and inner corner of the eye at its left, base of the nose.
    """

    box: tuple[int, int, int, int]
    landmarks: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Photo:
    """An opened photo: RGB pixels (H, W, 3) and the sha256 of its file. `file`: the name, for messages only."""

    pixels: Pixels
    digest: str
    file: str = ""
    face: Face | None = None


@dataclass(frozen=True, eq=False)
class Person:
    """Accepted photos of one person, in file-name order. The name is for messages; it never enters a prompt or an image.

    photo_weights: (K,), how much each photo counts beside the others, 0 to MAX_PHOTO_WEIGHT, 1 where nothing is said;
    None: all alike. Raises DataError for other numbers, or if no photo counts.
    """

    name: str
    photos: tuple[Photo, ...]
    photo_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        weights = self.photo_weights
        if weights is None:
            return
        if len(weights) != len(self.photos) or not all(0 <= weight <= MAX_PHOTO_WEIGHT for weight in weights):
            needed = f"a number from 0 to {MAX_PHOTO_WEIGHT} for each of the {len(self.photos)} photos is needed"
            raise DataError(f"the photo weights {weights}", needed, "Correct them")
        if not any(weights):
            raise DataError("no photo counts", "a weight above 0 is needed", "Give one photo a larger weight")

    def require_equal_weights(self, method: str, reason: str) -> None:
        """Raises DataError if photos are to count differently, which a method cannot do for this reason."""
        if self.photo_weights is not None:
            action = "Leave out the photo weights, or choose ip-adapter-consensus or ip-adapter-avg"
            raise DataError(f"{method} with photo weights", f"it takes none: {reason}", action)

    def require_photos(self) -> tuple[Photo, ...]:
        """The photos, at least one. Raises DataError if there is none."""
        if not self.photos:
            raise DataError(f"{self.name} has no usable photo", "at least one is needed", "Add photos")
        return self.photos


@dataclass(frozen=True, eq=False)
class Identity:
    """One person as a diffusion model is conditioned on them: image embeddings before projection, weights, photos in context.

    embeddings: (M, D), pooled, or (M, T, D), patch tokens, whichever the model's adapter reads; or None.
    weights: tensors by name (LoRA matrices or differences to the base weights), empty for adapters.
    context: what a transformer reads of photos beside the prompt, by the names of its family (models/families); {} without.
    model, encoder, adapter: "name@digest" of what made it; it is applied to nothing else.
    trigger_phrase: how a prompt names the person, "" where it need not. photos: sha256 of each photo used.
    photo_weights: the person's, of these photos; () where they counted alike.
    """

    method: str
    model: str
    encoder: str
    adapter: str
    embeddings: Tensor | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    trigger_phrase: str = ""
    photos: tuple[str, ...] = ()
    photo_weights: tuple[float, ...] = ()
    context: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def weights_digest(self) -> str:
        """sha256 over the weights, hexadecimal, computed once; "" without weights. Equal weights have equal digests."""
        return tensors_digest(self.weights) if self.weights else ""

    @cached_property
    def fingerprint(self) -> str:
        """sha256, hexadecimal, over all that its images depend on. Who it is and how it was made are not part of it."""
        read = dict(self.context) if self.embeddings is None else {**self.context, "embeddings": self.embeddings}
        fields = (self.model, self.encoder, self.adapter, self.trigger_phrase, self.weights_digest, tensors_digest(read))
        return hashlib.sha256(repr(fields).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What a method gives for one person.

    photo_weights: (K,), how much each photo counts, summing to one; None where a method has no such weights.
    warnings: sentences for the user, such as which photos are not used.
    leave_one_out: () -> (K,), of models/aggregators/leave_one_out.py. None where a method pools no embeddings, or of one photo.
    """

    identity: Identity
    photo_weights: Tensor | None = None
    warnings: tuple[str, ...] = ()
    leave_one_out: Callable[[], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One generated image (H, W, 3) and the settings that reproduce it. sampler: as A1111 names it."""

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

    unavailable: why value is None. Name and direction are in evaluation/registry.py.
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

    name: "name@digest", part of every cache key and identity. embedding_dim: D. num_tokens: T; 0 where embeddings are pooled.
    crops_faces: whether it encodes aligned crops of faces: a photo without a face has no embedding, and a model with such an
    encoder generates images framed as these crops.
    dlib_mean: (128,), the mean of dlib's face descriptors over many people, where embeddings are made of these; else None.
    raw_embeddings, standardize: the two steps of a call, without a cache. null_embedding: (D,) or (T, D), of guidance.
    """

    name: str
    embedding_dim: int
    num_tokens: int
    crops_faces: bool
    dlib_mean: Tensor | None

    def __call__(self, photos: Sequence[Photo]) -> Tensor: ...
    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor: ...
    def standardize(self, raw: Tensor) -> Tensor: ...
    def null_embedding(self) -> Tensor: ...


class Aggregator(Protocol):
    """Embeddings of one person's photos, (K, D) or (K, T, D) -> (M, D) or (M, T, D)."""

    def __call__(self, embeddings: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DefaultSampling:
    """How a model is sampled where nothing else is asked for (sampling/config.py). hires_strength: of a second pass, or 0."""

    steps: int
    guidance_scale: float
    hires_strength: float = DEFAULT_HIRES_STRENGTH
    guidance_rescale: float = 0.5
    centred: bool = False  # initial noise and guidance on the prompt: no mean in any channel


class DiffusionModel(Protocol):
    """What methods and sampling may read of a model. name: "name@digest". trained_methods: trained aggregators' folders.

    pipeline: of diffusers; prompt_encoder: prompts -> its text embeddings. Sampling and training leave both as they were.
    family: of models/families, None for a UNet. The others are explained at models/latent_diffusion.py and flow_model.py.
    """

    name: str
    pipeline: Any
    adapter_name: str
    encoder: Encoder
    trained_methods: Mapping[str, Path]
    prompt_encoder: Any
    memory_plan: Any
    family: Any
    max_context_photos: int
    size_multiple: int
    adapters: Any

    @property
    def adapter_parts(self) -> dict[str, dict[str, Tensor]]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def native_resolution(self) -> int: ...
    @property
    def trained_resolutions(self) -> Any: ...
    @property
    def default_sampling(self) -> DefaultSampling: ...
    @property
    def is_guidance_distilled(self) -> bool: ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]: ...
    def set_timesteps(self, scheduler: Any, steps: int, latent_shape: tuple[int, int, int]) -> None: ...
    def conditionings(self, conditions: Any) -> Mapping[str, Any]: ...
    def set_adapter_scale(self, scale: Any) -> None: ...
    def denoiser(self, precision: str) -> Any: ...
    def encode(self, pixels: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor, precision: str) -> Tensor: ...
    def decode_preview(self, latents: Tensor) -> Tensor: ...
    def unconditional_like(self, embeddings: Tensor) -> Tensor: ...
    def encode_photos(self, photos: Sequence[Pixels]) -> Mapping[str, Tensor]: ...
    def validate(self, identity: Identity) -> None: ...
    def backend_name(self, identity: Identity | None, precision: str) -> str: ...
    def reduce_memory(self) -> None: ...
    def add_adapter(self, path: Path) -> str: ...
    def ensure_adapter(self, name: str) -> None: ...
    def applied(self, identities: Sequence[Identity], *, torch_only: bool = False) -> AbstractContextManager[Tensor | None]: ...


class Method(Protocol):
    """Photos of a person -> MethodResult. May read the model; leaves it exactly as it was, also after an exception.

    tunes_model: whether it fine-tunes weights for each person: minutes, and the model has to be loaded in float32.
    keeps_photos: whether its identities contain photos. is_available: whether the model has what it needs, such as weights.
    """

    @property
    def name(self) -> str: ...
    @property
    def tunes_model(self) -> bool: ...
    @property
    def keeps_photos(self) -> bool: ...

    def is_available(self, model: DiffusionModel) -> bool: ...
    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult: ...


EntryValue = TypeVar("EntryValue")


@dataclass(frozen=True)
class Entry(Generic[EntryValue]):
    """A row of a registry: the object, and a line that says what it does."""

    value: EntryValue
    description: str
