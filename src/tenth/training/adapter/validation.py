"""While an adapter trains: images of validation people with the same seeds, and how like the people they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenth.core.cache import Array, ArrayCache
from tenth.core.errors import CheckpointError
from tenth.core.files.reading import open_regular
from tenth.core.types import Features, Pixels, Score
from tenth.data.faces.crops import CENTRAL_FACE, PhotoDataset
from tenth.data.faces.descriptors import encoder_name, face_descriptor
from tenth.data.manifest import ManifestEntry
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer
from tenth.evaluation.metrics.identity import identity_similarity
from tenth.models.aggregators.checkpoint import LearnedAggregator
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import DEFAULT_BATCH_SIZE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import sample
from tenth.training.adapter.dataset import cache_namespace, encode_photos

MAX_ROW_BYTES = 1 << 28


@dataclass(frozen=True)
class ValidationConfig:
    """What is drawn at each checkpoint. Likeness is by dlib, which may condition the model: to choose by, not to report."""

    num_people: int = 21  # validation people, an image each; 0: nothing is drawn
    num_references: int = 9
    num_held_out: int = 10  # photos of each person that an image is compared with, at most
    prompt: str = "a portrait photo of a person"
    seed: int = 0  # of the first person's image; the next have the next ones
    num_shown: int = 8  # people on the strip
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True, eq=False)
class AdapterValidator:
    """Validation people as an adapter's training sees them. references: (K, D) of each. held_out: dlib's rows of each."""

    settings: ValidationConfig
    references: Sequence[Tensor]
    held_out: Features
    recognizer: DlibRecognizer

    def generate(self, model: LatentDiffusion, aggregator: LearnedAggregator) -> list[Pixels]:
        """An image of each person, with the adapter that is installed in the model's UNet."""
        pooled = torch.stack([aggregator.pool(rows) for rows in self.references])  # (N, M, D)
        images: list[Pixels] = []
        for start in range(0, len(pooled), DEFAULT_BATCH_SIZE):
            rows = pooled[start : start + DEFAULT_BATCH_SIZE].to(model.pipeline.device, model.pipeline.dtype)
            seeds = [self.settings.seed + start + number for number in range(len(rows))]
            images += sample(model, [self.settings.prompt] * len(rows), seeds, self.settings.sampling, rows)
        return images

    def score(self, images: Sequence[Pixels]) -> Score:
        """Mean cosine to each person's held-out photos; an image without a face counts as a stranger's."""
        people = tuple(dict.fromkeys(self.held_out.people))
        return identity_similarity(generated=Features(self.recognizer(images), people), held_out=self.held_out)


def build_validator(
    people: PhotoDataset, settings: ValidationConfig, model: LatentDiffusion, cache: ArrayCache
) -> AdapterValidator | None:
    """The first validation people with enough photos that can be read; None where fewer than two have, or none is wanted."""
    entries = people.entries("validation", required=False) if settings.num_people else []
    keys = [row.digest for row in entries]
    encoded = list(
        cache.get_or_compute(cache_namespace(model.encoder), keys, partial(encode_photos, people, entries, model.encoder))
    )
    face_descriptors = list(
        cache.get_or_compute(f"{CENTRAL_FACE}-{encoder_name()}", keys, partial(compute_descriptors, people, entries))
    )
    by_person: dict[str, list[int]] = {}
    for index, row in enumerate(entries):
        if encoded[index].size and face_descriptors[index].size:
            by_person.setdefault(row.person, []).append(index)
    kept = [indices for indices in by_person.values() if len(indices) > settings.num_references][: settings.num_people]
    if len(kept) < 2:
        return None
    center = mean_descriptor(model, face_descriptors)
    references = [
        model.encoder.standardize(torch.from_numpy(np.stack([encoded[i] for i in indices[: settings.num_references]])))
        for indices in kept
    ]
    held_out = [indices[settings.num_references :][: settings.num_held_out] for indices in kept]
    held_out_descriptors = np.stack([face_descriptors[i] - center for indices in held_out for i in indices])
    names = tuple(f"{number:03}" for number, indices in enumerate(held_out) for _ in indices)
    return AdapterValidator(
        settings,
        references,
        Features(held_out_descriptors / np.linalg.norm(held_out_descriptors, axis=1)[:, None], names),
        DlibRecognizer(center),
    )


def compute_descriptors(people: PhotoDataset, entries: Sequence[ManifestEntry], missing: list[int]) -> Iterator[Array]:
    """dlib's descriptor of each photo, empty where there is no face."""
    for index in missing:
        photo = people.open_with_central_face(entries[index])
        yield np.zeros(0) if photo is None else face_descriptor(photo)


def mean_descriptor(model: LatentDiffusion, descriptors: Sequence[Array]) -> Array:
    """The mean descriptor of many people: the encoder's own, or that of these photos."""
    if model.encoder.dlib_mean is not None:
        return model.encoder.dlib_mean.double().numpy()
    mean: Array = np.stack([row for row in descriptors if row.size]).mean(0)
    return mean


def _damaged_history(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"{path} {fault}", "the history of this training is needed, or none", "Remove it: it is begun anew")


def _read_strip_row(path: Path) -> Pixels | None:
    """A row of the strip; None where its file is damaged, which costs the strip a row and nothing else."""
    try:
        with open_regular(path, MAX_ROW_BYTES) as file:
            return np.asarray(Image.open(file, formats=["PNG"]).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
