"""Face detailer: generate the face of an image again at the model's full resolution, and blend it in."""

from __future__ import annotations

import numpy as np

from tenth.core.types import DiffusionModel
from tenth.data.faces.detection import face_width, find_faces
from tenth.models.trained_resolutions import TrainedResolutions
from tenth.sampling.passes.img2img import img2img, resize_to_cover
from tenth.sampling.passes.resolutions import SIZE_MULTIPLE, Size
from tenth.sampling.sampler import FloatImage, OnStep, SamplingBatch, to_uint8

FACE_MARGIN = 2.0  # side of the square around a face, in widths of its box: the whole head
FEATHER = 0.25  # width of the blending, a fraction of the square's side
MIN_UPSCALE = 2.0  # the least upscaling of the square for which a second pass is worth its time


def face_crop_box(model: DiffusionModel, image: FloatImage, force: bool | None = None) -> tuple[int, int, int] | None:
    """Left, top and side, in pixels, of the square around the largest face that needs detail, or None.

    force: True for any face, None where the square is enlarged at least MIN_UPSCALE times. The side is a multiple of
    SIZE_MULTIPLE; the square lies inside the image.
    """
    faces = find_faces(to_uint8([image])[0])
    if not faces:
        return None
    face, (height, width) = faces[0], image.shape[:2]

    # The largest whole number of multiples that fits.
    multiples = min(round(FACE_MARGIN * face_width(face) / SIZE_MULTIPLE), width // SIZE_MULTIPLE, height // SIZE_MULTIPLE)
    side = multiples * SIZE_MULTIPLE
    if force is None and side * MIN_UPSCALE > model.native_resolution:
        return None

    # Centered on the face, moved inside the image.
    left, top = ((face.box[axis] + face.box[axis + 2] - side) // 2 for axis in (0, 1))
    return min(max(0, left), width - side), min(max(0, top), height - side), side


def detail_face(
    batch: SamplingBatch, image: FloatImage, crop_box: tuple[int, int, int], strength: float, on_step: OnStep | None = None
) -> FloatImage:
    """The image (H, W, 3) with the square generated again at the model's full resolution; outside it nothing changes."""
    left, top, side = crop_box
    resolution = batch.model.native_resolution
    if batch.model.trained_resolutions is not TrainedResolutions.SINGLE_SQUARE:
        resolution = max(resolution, -(-side // batch.model.size_multiple) * batch.model.size_multiple)
    region = (slice(top, top + side), slice(left, left + side))
    upscaled = img2img(batch, resize_to_cover(image[region], Size(resolution, resolution)), strength, on_step)
    patch, mask = resize_to_cover(upscaled, Size(side, side)), feather_mask(side)[..., None]
    result = image.copy()
    result[region] = image[region] * (1 - mask) + patch * mask
    return result


def feather_mask(side: int) -> FloatImage:
    """The weight of the new square at each pixel, (side, side): 0 at the border, 1 in the middle, smooth between."""
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * side)
    ramp = from_border.clip(0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)  # (side,)
    return np.outer(smooth, smooth).astype(np.float32)
