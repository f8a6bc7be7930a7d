"""Photos in context: a transformer reads a few photos beside the prompt, in each image anew. Nothing is trained or pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.errors import ModelError
from tenth.core.types import DiffusionModel, Identity, MethodResult, Person, Photo, Pixels
from tenth.core.wording import abbreviate, pluralize, printable
from tenth.data.faces.descriptors import cached_face_descriptor
from tenth.data.faces.detection import face_width
from tenth.methods.photo_choice import PhotoChoice, choose_photos
from tenth.models.families.registry import FAMILIES

FACE_WIDTHS = 3.0  # side of the crop, in widths of the face: head and shoulders
BELOW_FACE = 1 / 12  # of the crop's side: by how much its middle is below the face's
# Sides of crops in pixels, up to the family's largest: multiples of what every family asks for, and few, because only images
# whose photos have the same sizes share a batch. Four of 512 pixels have as many tokens as an image of 1024.
CROP_SIDES = (256, 512, 1024)


@dataclass(frozen=True)
class PhotosInContext:
    """A method: choose as many photos as the model takes, crop them, and encode them once. Its identity holds photos."""

    name: str = "photos-in-context"
    tunes_model, keeps_photos = False, True

    def is_available(self, model: DiffusionModel) -> bool:
        return model.max_context_photos > 0

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """photo_weights: as much for each photo that is taken, 0 for the others.

        The person's weights say which photos come first, and 0 which never. Raises DataError if the person has no photo,
        ModelError if the model takes none.
        """
        photos = person.require_photos()
        if not self.is_available(model):
            known = ", ".join(family.pipeline_class for family in FAMILIES.values() if family.max_context_photos)
            needed = (
                f"{self.name} needs a model that reads photos beside the prompt, such as flux2-klein-4b, or a folder of {known}"
            )
            found = f"{model.name.partition('@')[0]} takes no photos in context"
            raise ModelError(found, needed, "Choose such a model, or another method: `tenth methods`")
        descriptor = cached_face_descriptor(ArrayCache(default_cache_dir()))
        choice = choose_photos(photos, model.max_context_photos, descriptor, person.photo_weights)
        taken = [photos[index] for index in choice.indices]
        identity = Identity(
            method=self.name,
            model=model.name,
            encoder="",
            adapter="",
            photos=tuple(photo.digest for photo in taken),
            context=model.encode_photos([crop_for_context(photo, model.family.context_side) for photo in taken]),
        )
        shares = torch.zeros(len(photos), dtype=torch.float64)
        shares[list(choice.indices)] = 1 / len(taken)
        return MethodResult(identity, shares, _notes(photos, choice))


def crop_for_context(photo: Photo, largest: int) -> Pixels:
    """A square around head and shoulders, of one of CROP_SIDES: (side, side, 3). Without a face the middle of the photo.

    largest: of CROP_SIDES that may be used. A smaller photo is not enlarged, but to the smallest of them.

    It lies within the photo: a border that is made up would be drawn again.
    """
    height, width = photo.pixels.shape[:2]
    side, x, y = float(min(height, width)), width / 2, height / 2
    if photo.face is not None:
        left, top, right, bottom = photo.face.box
        side = min(side, FACE_WIDTHS * face_width(photo.face))
        x, y = (left + right) / 2, (top + bottom) / 2 + BELOW_FACE * side
    x0, y0 = (min(max(0.0, middle - side / 2), length - side) for middle, length in ((x, width), (y, height)))
    target = max((each for each in CROP_SIDES if each <= min(side, largest)), default=CROP_SIDES[0])
    box = (x0, y0, x0 + side, y0 + side)
    return np.array(Image.fromarray(photo.pixels).resize((target, target), Image.Resampling.LANCZOS, box=box))


def _notes(photos: Sequence[Photo], choice: PhotoChoice) -> tuple[str, ...]:
    """Which photos are taken, and for each reason how many are not."""

    def names(indices: Sequence[int]) -> list[str]:
        some = [photos[index] for index in indices]
        return [photo.digest[:8] if photo.digest in photo.file or not photo.file else printable(photo.file) for photo in some]

    taken = sorted(choice.indices)
    if len(taken) == len(photos):
        return ()
    notes = [f"{pluralize(len(taken), 'photo')} of {len(photos)} in context: {', '.join(names(taken))}"]
    for reason in dict.fromkeys(choice.left_out.values()):
        indices = [index for index, each in choice.left_out.items() if each == reason]
        notes.append(f"not in context, as {reason}: {abbreviate(names(indices))}")
    return tuple(notes)
