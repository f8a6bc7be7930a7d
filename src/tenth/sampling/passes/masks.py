"""Painted masks: pictures in black and white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tenth.data.photo import open_photo

Mask = npt.NDArray[np.uint8]  # (H, W): 255 is white, 0 black, what is between is a share
MAX_MASK_SIDE = 4096  # pixels of the longer side
JPEG_NOISE = 16  # grey values: what a JPEG makes of black and white


def open_mask(path: Path) -> tuple[Mask, str]:
    """The mask in a file, and the file's sha256. Raises PhotoError for what is no picture, or larger than MAX_MASK_SIDE."""
    painted = open_photo(path, MAX_MASK_SIDE, reduce=False)
    grey = np.array(Image.fromarray(painted.pixels).convert("L"))
    grey[grey < JPEG_NOISE], grey[grey > 255 - JPEG_NOISE] = 0, 255
    return grey, painted.digest
