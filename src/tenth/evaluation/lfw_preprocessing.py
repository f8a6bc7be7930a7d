"""A generated image as if it had been a photo of LFW, so that distances between sets of images do not measure file formats."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from tenth.core.types import Pixels
from tenth.data.faces.detection import CROP_SIZE, crop_face, find_faces

LFW_CROP_PIXELS = 152  # pixels that LFW has where a crop has CROP_SIZE
JPEG_QUALITY, JPEG_SUBSAMPLING = 75, "4:2:0"  # of LFW's files


def match_lfw_jpeg(image: Pixels) -> Pixels:
    """An image (H, W, 3) of a face, aligned as crops of photos are: at LFW's resolution, through its codec, (128, 128, 3).

    Its landmarks come to where those of every real crop are; an image without a face stays in the frame that it has.
    Distances may fall by all this or rise, so that the same without it belongs beside them.
    """
    content = BytesIO()
    Image.fromarray(_align_or_resize(image)).save(content, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING)
    with Image.open(content, formats=["JPEG"]) as photo:
        return np.asarray(photo.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR))


def _align_or_resize(image: Pixels) -> Pixels:
    """(SIDE, SIDE, 3): the largest face in the crop's place, or the whole picture."""
    faces = find_faces(image)
    if faces:
        return crop_face(image, faces[0], size=LFW_CROP_PIXELS)
    return np.asarray(Image.fromarray(image).resize((LFW_CROP_PIXELS, LFW_CROP_PIXELS), Image.Resampling.BICUBIC))
