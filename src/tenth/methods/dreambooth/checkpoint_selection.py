"""Which checkpoint of a run that learns one person is kept: the one most like photos that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenth.core.types import FeatureArray, Features, Photo, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer, l2_normalize
from tenth.evaluation.metrics.identity import copy_paste_index
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import sample
from tenth.training.history import append_history, image_strip
from tenth.training.monitoring import CheckpointMetrics

NUM_IMAGES = 4  # drawn at each checkpoint, with the same seeds and prompts each time
PERSON = "person"


@dataclass(frozen=True, eq=False)
class CheckpointSelector:
    """What each checkpoint is judged by. training_photos, held_out: the person's photos by the model's own encoder."""

    model: LatentDiffusion
    training_photos: Features
    held_out: Features
    prompts: tuple[str, ...]
    sampling: SamplingConfig
    directory: Path

    def __call__(self, images_seen: int) -> tuple[bool, CheckpointMetrics]:
        """Draw with the weights that are on the model. Whether they are the best so far, and what the board shows.

        Similarity to the photos that are learnt from rising while that to the held-out ones stalls is overfitting.
        """
        images = sample(self.model, self.prompts, range(NUM_IMAGES), self.sampling)
        generated = Features(embed_images(self.model, images), (PERSON,) * NUM_IMAGES)
        held_out_similarity, training_similarity = (
            mean_similarity(generated.vectors, photos.vectors) for photos in (self.held_out, self.training_photos)
        )
        has_faces = not np.isnan(generated.vectors).all()
        copy = (
            copy_paste_index(generated=generated, held_out=self.held_out, references=self.training_photos).value
            if has_faces
            else None
        )
        is_best = append_history(
            self.directory, images_seen, Score(held_out_similarity), images, references=training_similarity, copy=copy
        )
        metrics: dict[str, float | Pixels] = {
            "person/held-out photos": held_out_similarity,
            "person/photos learnt from": training_similarity,
        }
        return is_best, metrics | ({} if copy is None else {"person/copy index": copy}) | {"person/images": image_strip(images)}


def build_selector(
    model: LatentDiffusion,
    training_photos: Sequence[Pixels],
    held_out: Sequence[Pixels],
    prompts: Sequence[str],
    sampling: SamplingConfig,
    directory: Path,
) -> CheckpointSelector | None:
    """The judge of one person's run; None where no face is found on one of its sides. prompts: those that it learns from.

    Images are drawn from some, spread over all, so that a checkpoint that knows the person under one alone is not the best.
    """
    embeddings = [embed_images(model, pictures) for pictures in (training_photos, held_out)]
    with_faces = [rows[~np.isnan(rows).any(1)] for rows in embeddings]
    if not all(map(len, with_faces)):
        return None
    features = [Features(rows, (PERSON,) * len(rows)) for rows in with_faces]
    selected_prompts = tuple(prompts[number * len(prompts) // NUM_IMAGES] for number in range(NUM_IMAGES))
    return CheckpointSelector(model, features[0], features[1], selected_prompts, sampling, directory)


def embed_images(model: LatentDiffusion, images: Sequence[Pixels]) -> FeatureArray:
    """Pictures by the model's own image encoder, rows of length 1 (N, D), NaN where a face encoder finds no face."""
    if isinstance(model.encoder, FaceEncoder):
        return DlibRecognizer(model.encoder.mean.double().numpy())(images)
    embeddings = model.encoder([Photo(picture, "") for picture in images]).double()
    return l2_normalize((embeddings.mean(1) if embeddings.ndim == 3 else embeddings).numpy())  # of patch tokens their mean


def mean_similarity(generated: FeatureArray, photos: FeatureArray) -> float:
    """Mean cosine of images to photos; an image without a face counts 0, as a stranger's."""
    return float(np.nan_to_num(generated @ photos.mean(0)).mean())
