"""Which checkpoint of a run that learns one person is kept: the one most like photos that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenth.core.types import Features, Photo, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import DlibRecogniser, Rows, unit_rows
from tenth.evaluation.metrics.identity import copy_index
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import Sampling
from tenth.sampling.sampler import sample
from tenth.training.monitoring import Seen, record, strip

IMAGES = 4  # drawn at each checkpoint, with the same seeds and prompts each time
PERSON = "person"


@dataclass(frozen=True, eq=False)
class Choice:
    """What each checkpoint is judged by. given, held_out: the person's photos as the model's own encoder sees them."""

    model: LatentDiffusion
    given: Features
    held_out: Features
    prompts: tuple[str, ...]
    sampling: Sampling
    directory: Path

    def __call__(self, seen: int) -> tuple[bool, Seen]:
        """Draw with the weights that are on the model. Whether they are the best so far, and what the board shows.

        Similarity to the photos that are learnt from rising while that to the held-out ones stalls is overfitting.
        """
        pictures = sample(self.model, self.prompts, range(IMAGES), self.sampling)
        drawn = Features(read(self.model, pictures), (PERSON,) * IMAGES)
        new, known = (likeness(drawn.rows, photos.rows) for photos in (self.held_out, self.given))
        faces = not np.isnan(drawn.rows).all()
        copy = copy_index(generated=drawn, held_out=self.held_out, references=self.given).value if faces else None
        best = record(self.directory, seen, Score("identity", new), pictures, references=known, copy=copy)
        shown: dict[str, float | Pixels] = {"person/held-out photos": new, "person/photos learnt from": known}
        return best, shown | ({} if copy is None else {"person/copy index": copy}) | {"person/images": strip(pictures)}


def open_choice(
    model: LatentDiffusion,
    given: Sequence[Pixels],
    held_out: Sequence[Pixels],
    prompts: Sequence[str],
    sampling: Sampling,
    directory: Path,
) -> Choice | None:
    """The judge of one person's run; None where no face is found on one of its sides. prompts: those that it learns from.

    Images are drawn from some, spread over all, so that a checkpoint that knows the person under one alone is not the best.
    """
    sides = [read(model, pictures) for pictures in (given, held_out)]
    seen = [rows[~np.isnan(rows).any(1)] for rows in sides]
    if not all(map(len, seen)):
        return None
    features = [Features(rows, (PERSON,) * len(rows)) for rows in seen]
    asked = tuple(prompts[number * len(prompts) // IMAGES] for number in range(IMAGES))
    return Choice(model, features[0], features[1], asked, sampling, directory)


def read(model: LatentDiffusion, pictures: Sequence[Pixels]) -> Rows:
    """Pictures by the model's own image encoder, rows of length 1 (N, D), NaN where a face encoder finds no face."""
    if isinstance(model.encoder, FaceEncoder):
        return DlibRecogniser(model.encoder.centre.double().numpy())(pictures)
    rows = model.encoder([Photo(picture, "") for picture in pictures]).double()
    return unit_rows((rows.mean(1) if rows.ndim == 3 else rows).numpy())  # of patch tokens their mean


def likeness(drawn: Rows, photos: Rows) -> float:
    """Mean cosine of images to photos; an image without a face counts 0, as a stranger's."""
    return float(np.nan_to_num(drawn @ photos.mean(0)).mean())
