"""A generated image as if it had been a photo of LFW, so that distances between sets of images do not measure file formats."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from tenth.data.faces import CROP_PIXELS
from tenth.types import Pixels

SIDE = 152  # pixels that LFW has where a crop has CROP_PIXELS
QUALITY, SUBSAMPLING = 75, "4:2:0"  # of LFW's files


def as_lfw(picture: Pixels) -> Pixels:
    """A square image (S, S, 3) of a face, framed as crops are: at LFW's resolution, through its codec, (128, 128, 3) again.

    Distances may fall by it or rise, so that the same without it belongs beside them.
    """
    content = BytesIO()
    Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(
        content, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING
    )
    with Image.open(content, formats=["JPEG"]) as photo:
        return np.asarray(photo.resize((CROP_PIXELS, CROP_PIXELS), Image.Resampling.BILINEAR))
