"""Checkpoint selection for fine-tuning on one person: the most similar to held-out photos of the person is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from tenth.core.types import DiffusionModel, FeatureArray, Features, Photo, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer, dlib_recognizer, l2_normalize
from tenth.evaluation.metrics.identity import copy_paste_index
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample
from tenth.training.monitoring import CheckpointMetrics, append_history, image_strip

NUM_IMAGES = 4  # generated at each checkpoint, with the same seeds and prompts each time
PERSON = "person"


@dataclass(frozen=True, eq=False)
class CheckpointImages:
    """How a checkpoint's images are drawn. embeddings: (M, D) or (M, T, D), for the adapter that is on; None where none is."""

    prompts: Sequence[str]
    sampling: SamplingConfig
    embeddings: Tensor | None = None


@dataclass(frozen=True, eq=False)
class CheckpointSelector:
    """Measures a checkpoint. training_photos, held_out: the person's photos, as the model's own encoder embeds them."""

    model: DiffusionModel
    training_photos: Features
    held_out: Features
    drawing: CheckpointImages
    directory: Path

    def __call__(self, images_seen: int) -> tuple[bool, CheckpointMetrics]:
        """Generate with the weights that are on the model. Gives whether they are the best so far, and metrics to log."""
        drawing, embeddings = self.drawing, self.drawing.embeddings
        if embeddings is not None:
            embeddings = embeddings.to(self.model.device, self.model.dtype).expand(NUM_IMAGES, *embeddings.shape)
        images = sample(SamplingBatch(self.model, drawing.sampling, drawing.prompts, range(NUM_IMAGES), embeddings))
        generated = Features(embed_images(self.model, images), (PERSON,) * NUM_IMAGES)
        held_out_similarity = mean_similarity(generated.vectors, self.held_out.vectors)
        training_similarity = mean_similarity(generated.vectors, self.training_photos.vectors)
        copy = None
        if not np.isnan(generated.vectors).all():
            copy = copy_paste_index(generated=generated, held_out=self.held_out, references=self.training_photos).value

        # The history on disk says whether this is the best, also after an interruption.
        extra, score = {"references": training_similarity, "copy": copy}, Score(held_out_similarity)
        is_best = append_history(self.directory, images_seen, score, images, **extra)
        metrics: dict[str, float | Pixels] = {
            "person/held-out photos": held_out_similarity,
            "person/training photos": training_similarity,
            "person/images": image_strip(images),
        }
        if copy is not None:
            metrics["person/copy index"] = copy
        return is_best, metrics


def build_selector(
    model: DiffusionModel,
    training_photos: Sequence[Pixels],
    held_out: Sequence[Pixels],
    drawing: CheckpointImages,
    directory: Path,
) -> CheckpointSelector | None:
    """The selector of one run; None if no face is found in the training photos or in the held-out ones.

    drawing: with the prompts of the training photos, of which NUM_IMAGES are used, spread evenly: the person should be known
    under all of them.
    """
    embeddings = [embed_images(model, images) for images in (training_photos, held_out)]
    with_faces = [rows[~np.isnan(rows).any(1)] for rows in embeddings]
    if not all(map(len, with_faces)):
        return None
    features = [Features(rows, (PERSON,) * len(rows)) for rows in with_faces]
    prompts = drawing.prompts
    selected_prompts = tuple(prompts[number * len(prompts) // NUM_IMAGES] for number in range(NUM_IMAGES))
    return CheckpointSelector(model, features[0], features[1], replace(drawing, prompts=selected_prompts), directory)


def embed_images(model: DiffusionModel, images: Sequence[Pixels]) -> FeatureArray:
    """Embeddings of norm 1 (N, D), by the model's own image encoder or, of a transformer, dlib; NaN where no face is found."""
    if model.family is not None:
        return dlib_recognizer()(images)
    if model.encoder.dlib_mean is not None:
        return DlibRecognizer(model.encoder.dlib_mean.double().numpy())(images)
    embeddings = model.encoder([Photo(pixels, "") for pixels in images]).double()
    if embeddings.ndim == 3:  # of patch tokens, the mean
        embeddings = embeddings.mean(1)
    return l2_normalize(embeddings.numpy())


def mean_similarity(generated: FeatureArray, photos: FeatureArray) -> float:
    """Mean cosine similarity of images to photos; an image without a face counts as 0."""
    return float(np.nan_to_num(generated @ photos.mean(0)).mean())
