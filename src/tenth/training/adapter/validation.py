"""Validation of an adapter in training: images of validation people with fixed seeds, and their identity similarity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tenth.core.cache import Array, ArrayCache
from tenth.core.config import Count, WholeNumber, config_dataclass
from tenth.core.console import print_message
from tenth.core.types import DiffusionModel, Features, Pixels, Score
from tenth.core.wording import pluralize
from tenth.data.faces.crops import CENTRAL_FACE, PhotoDataset
from tenth.data.faces.descriptors import encoder_name, face_descriptor
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer
from tenth.evaluation.metrics.identity import identity_similarity
from tenth.models.aggregators.checkpoint import LearnedAggregator
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample
from tenth.training.adapter.encoding import cache_namespace, encode_photos


@config_dataclass
class ValidationConfig:
    """Images at each checkpoint. The similarity is by dlib, which may condition the model: for selection, not for results."""

    num_people: WholeNumber = 21  # validation people, an image each; 0: no validation
    num_references: Count = 9
    num_held_out: Count = 10  # photos of each person that an image is compared with, at most
    prompt: str = "a portrait photo of a person"
    seed: WholeNumber = 0  # of the first person's image; the next have the next ones
    num_shown: Count = 8  # people on the strip
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True, eq=False)
class AdapterValidator:
    """Validation people. references: (K, D) of each, for the aggregator. held_out: dlib's embeddings, to compare with."""

    settings: ValidationConfig
    references: Sequence[Tensor]
    held_out: Features
    recognizer: DlibRecognizer

    def generate(self, model: DiffusionModel, aggregator: LearnedAggregator) -> list[Pixels]:
        """An image of each person, (H, W, 3), with the adapter that is installed in the model's network."""
        pooled = torch.stack([aggregator.pool(rows) for rows in self.references])  # (N, M, D)
        images: list[Pixels] = []
        for start in range(0, len(pooled), DEFAULT_BATCH_SIZE):
            rows = pooled[start : start + DEFAULT_BATCH_SIZE].to(model.device, model.dtype)
            seeds = [self.settings.seed + start + number for number in range(len(rows))]
            prompts = [self.settings.prompt] * len(rows)
            images += sample(SamplingBatch(model, self.settings.sampling, prompts, seeds, rows))
        return images

    def score(self, images: Sequence[Pixels]) -> Score:
        """Identity similarity to each person's held-out photos; an image without a face counts as an impostor's."""
        people = tuple(dict.fromkeys(self.held_out.people))
        return identity_similarity(generated=Features(self.recognizer(images), people), held_out=self.held_out)


def build_validator(
    people: PhotoDataset, settings: ValidationConfig, model: DiffusionModel, cache: ArrayCache
) -> AdapterValidator | None:
    """The first validation people with enough readable photos; None if there are fewer than two, or none is asked for."""
    # What the model's encoder and dlib read in each photo.
    entries = people.entries("validation", required=False) if settings.num_people else []
    keys, encode = [entry.digest for entry in entries], partial(encode_photos, people, entries, model.encoder)
    encoded = list(cache.get_or_compute(cache_namespace(model.encoder), keys, encode))

    def describe(missing: list[int]) -> Iterator[Array]:
        for index in missing:
            photo = people.open_with_central_face(entries[index])
            yield np.zeros(0) if photo is None else face_descriptor(photo)

    descriptors = list(cache.get_or_compute(f"{CENTRAL_FACE}-{encoder_name()}", keys, describe))

    # People with more readable photos than are references.
    by_person: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if encoded[index].size and descriptors[index].size:
            by_person.setdefault(entry.person, []).append(index)
    kept = [indices for indices in by_person.values() if len(indices) > settings.num_references][: settings.num_people]
    if len(kept) < 2:
        if settings.num_people:
            enough = (
                f"{pluralize(len(kept), 'validation person', 'validation people')} with more than {settings.num_references}"
            )
            print_message(f"no validation: {enough} readable photos, where two are needed; no best checkpoint is kept")
        return None

    # The first photos are references, the next are held out.
    center = np.stack([row for row in descriptors if row.size]).mean(0)  # (128,)
    if model.encoder.dlib_mean is not None:  # over many people, not these alone
        center = model.encoder.dlib_mean.double().numpy()
    reference_photos = [np.stack([encoded[index] for index in indices[: settings.num_references]]) for indices in kept]
    references = [model.encoder.standardize(torch.from_numpy(embeddings)) for embeddings in reference_photos]
    held_out = [indices[settings.num_references :][: settings.num_held_out] for indices in kept]
    centered = np.stack([descriptors[index] - center for indices in held_out for index in indices])  # (N, 128)
    names = tuple(f"{number:03}" for number, indices in enumerate(held_out) for _ in indices)
    features = Features(centered / np.linalg.norm(centered, axis=1)[:, None], names)
    return AdapterValidator(settings, references, features, DlibRecognizer(center))
