"""LFW's resolution and JPEG for generated images, so that distances between image sets do not measure file formats."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from tenth.core.types import Pixels
from tenth.data.faces.detection import CROP_SIZE, crop_face, find_faces

LFW_CROP_PIXELS = 152  # the side in LFW's photos of what becomes a crop of CROP_SIZE
JPEG_QUALITY, JPEG_SUBSAMPLING = 75, "4:2:0"  # of LFW's files


def match_lfw_jpeg(image: Pixels) -> Pixels:
    """An image (H, W, 3) of a face, at LFW's resolution and after its JPEG, aligned like a crop: (128, 128, 3).

    An image without a face is resized. This may lower distances or raise them: report those without it beside them.
    """
    content = BytesIO()
    Image.fromarray(_align_or_resize(image)).save(content, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING)
    with Image.open(content, formats=["JPEG"]) as photo:
        return np.asarray(photo.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR))


def _align_or_resize(image: Pixels) -> Pixels:
    """(LFW_CROP_PIXELS, LFW_CROP_PIXELS, 3): the largest face aligned, or the whole image."""
    faces = find_faces(image)
    if faces:
        return crop_face(image, faces[0], size=LFW_CROP_PIXELS)
    return np.asarray(Image.fromarray(image).resize((LFW_CROP_PIXELS, LFW_CROP_PIXELS), Image.Resampling.BICUBIC))
