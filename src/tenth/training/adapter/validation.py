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

from tenth.core.cache import Array, Store
from tenth.core.errors import CheckpointError
from tenth.core.file_reading import open_regular
from tenth.core.types import Features, Pixels, Score
from tenth.data.face_crops import CENTRAL, People
from tenth.data.face_descriptors import describe, encoder_name
from tenth.data.manifest import Row
from tenth.evaluation.extractors.face_recognizer import DlibRecogniser
from tenth.evaluation.metrics.identity import identity
from tenth.models.aggregators.checkpoint import Learned
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import BATCH
from tenth.sampling.config import Sampling
from tenth.sampling.sampler import sample
from tenth.training.adapter.dataset import finished, read, space_of

ROW_BYTES = 1 << 28


@dataclass(frozen=True)
class Validation:
    """What is drawn at each checkpoint. Likeness is by dlib, which may condition the model: to choose by, not to report."""

    people: int = 21  # validation people, an image each; 0: nothing is drawn
    references: int = 9
    held_out: int = 10  # photos of each person that an image is compared with, at most
    prompt: str = "a portrait photo of a person"
    seed: int = 0  # of the first person's image; the next have the next ones
    shown: int = 8  # people on the strip
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, eq=False)
class Judge:
    """Validation people as an adapter's training sees them. references: (K, D) of each. held_out: dlib's rows of each."""

    settings: Validation
    references: Sequence[Tensor]
    held_out: Features
    recogniser: DlibRecogniser

    def draw(self, model: LatentDiffusion, aggregator: Learned) -> list[Pixels]:
        """An image of each person, with the adapter that is installed in the model's UNet."""
        pooled = torch.stack([aggregator.pool(rows) for rows in self.references])  # (N, M, D)
        pictures: list[Pixels] = []
        for start in range(0, len(pooled), BATCH):
            rows = pooled[start : start + BATCH].to(model.pipeline.device, model.pipeline.dtype)
            seeds = [self.settings.seed + start + number for number in range(len(rows))]
            pictures += sample(model, [self.settings.prompt] * len(rows), seeds, self.settings.sampling, rows)
        return pictures

    def score(self, pictures: Sequence[Pixels]) -> Score:
        """Mean cosine to each person's held-out photos; an image without a face counts as a stranger's."""
        people = tuple(dict.fromkeys(self.held_out.people))
        return identity(generated=Features(self.recogniser(pictures), people), held_out=self.held_out)


def open_judge(people: People, settings: Validation, model: LatentDiffusion, store: Store) -> Judge | None:
    """The first validation people with enough photos that can be read; None where fewer than two have, or none is wanted."""
    rows = people.rows("validation", needed=False) if settings.people else []
    keys = [row.digest for row in rows]
    encoded = list(store.remember(space_of(model.encoder), keys, partial(read, people, rows, model.encoder)))
    described = list(store.remember(f"{CENTRAL}-{encoder_name()}", keys, partial(descriptors, people, rows)))
    by_person: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if encoded[index].size and described[index].size:
            by_person.setdefault(row.person, []).append(index)
    kept = [indices for indices in by_person.values() if len(indices) > settings.references][: settings.people]
    if len(kept) < 2:
        return None
    centre = centre_of(model, described)
    references = [finished(model.encoder, np.stack([encoded[i] for i in indices[: settings.references]])) for indices in kept]
    held_out = [indices[settings.references :][: settings.held_out] for indices in kept]
    unit = np.stack([described[i] - centre for indices in held_out for i in indices])
    names = tuple(f"{number:03}" for number, indices in enumerate(held_out) for _ in indices)
    return Judge(settings, references, Features(unit / np.linalg.norm(unit, axis=1)[:, None], names), DlibRecogniser(centre))


def descriptors(people: People, rows: Sequence[Row], missing: list[int]) -> Iterator[Array]:
    """dlib's descriptor of each photo, empty where there is no face."""
    for index in missing:
        photo = people.located(rows[index])
        yield np.zeros(0) if photo is None else describe(photo)


def centre_of(model: LatentDiffusion, described: Sequence[Array]) -> Array:
    """The mean descriptor of many people: the encoder's own, or that of these photos."""
    if isinstance(model.encoder, FaceEncoder):
        return model.encoder.centre.double().numpy()
    mean: Array = np.stack([row for row in described if row.size]).mean(0)
    return mean


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{path} {found}", "the history of this training is needed, or none", "Remove it: it is begun anew")


def _row(path: Path) -> Pixels | None:
    """A row of the strip; None where its file is damaged, which costs the strip a row and nothing else."""
    try:
        with open_regular(path, ROW_BYTES) as file:
            return np.asarray(Image.open(file, formats=["PNG"]).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
