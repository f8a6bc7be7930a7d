"""A picture -> its face drawn again at the model's full resolution, and put back without a seam."""

from __future__ import annotations

import numpy as np

from tenth.data.faces import face_pixels, find_faces
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.img2img import Floats, Scene, draws_one_square, fitted, redraw, trained_side
from tenth.sampling.resolutions import STEP, Size
from tenth.sampling.sampler import OnStep, to_pixels

FACE_MARGIN = 2.0  # side of the square that is redrawn, in widths of the face's box: the whole head
FEATHER = 0.25  # of the square's side, in which the redrawn face passes into the picture
ENLARGED = 2.0  # times that a face's square is enlarged, from which on redrawing it is worth its time


def face_square(model: LatentDiffusion, image: Floats, wanted: bool | None = None) -> tuple[int, int, int] | None:
    """Left, top and side of the square around the largest face that is to be drawn again, or None.

    wanted: True wherever there is a face, None where it is worth it. The side is a multiple of eight; the square lies inside.
    """
    faces = find_faces(to_pixels([image])[0])
    if not faces:
        return None
    face, (height, width) = faces[0], image.shape[:2]
    side = min(round(FACE_MARGIN * face_pixels(face) / STEP), width // STEP, height // STEP) * STEP
    if wanted is None and side * ENLARGED > trained_side(model):
        return None
    left, top = ((face.box[axis] + face.box[axis + 2] - side) // 2 for axis in (0, 1))
    return min(max(0, left), width - side), min(max(0, top), height - side), side


def redraw_square(
    scene: Scene, image: Floats, square: tuple[int, int, int], strength: float, on_step: OnStep | None = None
) -> Floats:
    """The picture with a square of it drawn again at the model's full resolution; outside it stays to the bit."""
    left, top, side = square
    drawn_at = trained_side(scene.model)
    if not draws_one_square(scene.model):
        drawn_at = max(drawn_at, side)
    part = (slice(top, top + side), slice(left, left + side))
    large = redraw(scene, fitted(image[part], Size(drawn_at, drawn_at)), strength, on_step)
    new, share = fitted(large, Size(side, side)), feather(side)[..., None]
    whole = image.copy()
    whole[part] = image[part] * (1 - share) + new * share
    return whole


def feather(side: int) -> Floats:
    """How much of the redrawn square counts (side, side): nothing at its border, all in its middle, smoothly between."""
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * side)
    ramp = from_border.clip(0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)  # (side,)
    return np.outer(smooth, smooth).astype(np.float32)
