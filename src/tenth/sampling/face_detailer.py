"""A picture -> its face drawn again at the model's full resolution, and put back without a seam."""

from __future__ import annotations

import numpy as np

from tenth.data.faces.detection import face_width, find_faces
from tenth.models.latent_diffusion import LatentDiffusion, TrainedResolutions
from tenth.sampling.img2img import FloatImage, SamplingBatch, img2img, native_resolution, resize_to_cover
from tenth.sampling.resolutions import SIZE_MULTIPLE, Size
from tenth.sampling.sampler import OnStep, to_uint8

FACE_MARGIN = 2.0  # side of the square that is redrawn, in widths of the face's box: the whole head
FEATHER = 0.25  # of the square's side, in which the redrawn face passes into the picture
MIN_UPSCALE = 2.0  # times that a face's square is enlarged, from which on redrawing it is worth its time


def face_crop_box(model: LatentDiffusion, image: FloatImage, force: bool | None = None) -> tuple[int, int, int] | None:
    """Left, top and side of the square around the largest face that is to be drawn again, or None.

    force: True wherever there is a face, None where it is worth it. The side is a multiple of eight; the square lies inside.
    """
    faces = find_faces(to_uint8([image])[0])
    if not faces:
        return None
    face, (height, width) = faces[0], image.shape[:2]
    side = (
        min(round(FACE_MARGIN * face_width(face) / SIZE_MULTIPLE), width // SIZE_MULTIPLE, height // SIZE_MULTIPLE)
        * SIZE_MULTIPLE
    )
    if force is None and side * MIN_UPSCALE > native_resolution(model):
        return None
    left, top = ((face.box[axis] + face.box[axis + 2] - side) // 2 for axis in (0, 1))
    return min(max(0, left), width - side), min(max(0, top), height - side), side


def detail_face(
    batch: SamplingBatch, image: FloatImage, crop_box: tuple[int, int, int], strength: float, on_step: OnStep | None = None
) -> FloatImage:
    """The picture with a square of it drawn again at the model's full resolution; outside it stays to the bit."""
    left, top, side = crop_box
    resolution = native_resolution(batch.model)
    if batch.model.trained_resolutions is not TrainedResolutions.SINGLE_SQUARE:
        resolution = max(resolution, side)
    region = (slice(top, top + side), slice(left, left + side))
    upscaled = img2img(batch, resize_to_cover(image[region], Size(resolution, resolution)), strength, on_step)
    patch, mask = resize_to_cover(upscaled, Size(side, side)), feather_mask(side)[..., None]
    result = image.copy()
    result[region] = image[region] * (1 - mask) + patch * mask
    return result


def feather_mask(side: int) -> FloatImage:
    """How much of the redrawn square counts (side, side): nothing at its border, all in its middle, smoothly between."""
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * side)
    ramp = from_border.clip(0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)  # (side,)
    return np.outer(smooth, smooth).astype(np.float32)
