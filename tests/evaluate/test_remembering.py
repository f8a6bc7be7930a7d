from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tenth.evaluate.recogniser import Remembering, Rows
from tenth.types import Pixels


def test_equal_pictures_are_read_once() -> None:
    class Brightness:
        name, width = "brightness@0", 2

        def __init__(self) -> None:
            self.read = 0

        def __call__(self, pixels: Sequence[Pixels]) -> Rows:
            self.read += len(pixels)
            return np.array([[image.mean(), np.nan] for image in pixels]).reshape(-1, 2)

    plain, (dark, light) = Brightness(), (np.full((4, 4, 3), value, np.uint8) for value in (10, 200))
    once = Remembering(plain)
    assert (once.name, once.width) == (plain.name, plain.width)
    rows = [once([dark, light, dark.copy()]), once([light]), once([light.reshape(2, 8, 3)]), once([])]
    assert plain.read == 3  # the other shape is another picture
    np.testing.assert_array_equal(rows[0], [[10, np.nan], [200, np.nan], [10, np.nan]])
    np.testing.assert_array_equal(rows[1], rows[2])
    assert rows[3].shape == (0, 2)
