from __future__ import annotations

import numpy as np
from PIL import Image

from tenth.evaluation.lfw_preprocessing import match_lfw_jpeg
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR


def test_a_face_comes_to_the_place_where_crops_have_it() -> None:
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:4]]
    inner = (slice(20, -20), slice(20, -20))
    for picture in pictures:
        moved = np.roll(picture, (5, -7), (0, 1))
        before = np.abs(picture[inner].astype(int) - moved[inner]).mean()
        after = np.abs(match_lfw_jpeg(picture)[inner].astype(int) - match_lfw_jpeg(moved)[inner]).mean()
        assert after < before / 5
    larger = np.asarray(Image.fromarray(pictures[0]).resize((512, 512), Image.Resampling.BICUBIC))
    assert np.abs(match_lfw_jpeg(larger).astype(int) - match_lfw_jpeg(pictures[0])).mean() < 10
