"""A generated image as if it had been a photo of LFW, so that distances between sets of images do not measure file formats."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from tenth.core.types import Pixels
from tenth.data.faces import CROP_PIXELS, crop_face, find_faces

SIDE = 152  # pixels that LFW has where a crop has CROP_PIXELS
QUALITY, SUBSAMPLING = 75, "4:2:0"  # of LFW's files


def as_lfw(picture: Pixels) -> Pixels:
    """An image (H, W, 3) of a face, aligned as crops of photos are: at LFW's resolution, through its codec, (128, 128, 3).

    Its landmarks come to where those of every real crop are; an image without a face stays in the frame that it has.
    Distances may fall by all this or rise, so that the same without it belongs beside them.
    """
    content = BytesIO()
    Image.fromarray(_framed(picture)).save(content, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    with Image.open(content, formats=["JPEG"]) as photo:
        return np.asarray(photo.resize((CROP_PIXELS, CROP_PIXELS), Image.Resampling.BILINEAR))


def _framed(picture: Pixels) -> Pixels:
    """(SIDE, SIDE, 3): the largest face in the crop's place, or the whole picture."""
    faces = find_faces(picture)
    if faces:
        return crop_face(picture, faces[0], side=SIDE)
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
