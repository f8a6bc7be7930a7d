"""Every extractor sees each picture once, and memory does not grow with their number."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tenth.core.cache import ArrayCache, image_hash
from tenth.core.types import FeatureArray, Pixels
from tenth.evaluation.extractors.features import extract_features

BATCH = 4
SIDE = 64  # 12 KB a picture


class Brightness:
    """Mean and height; NaN for a black picture. Counts what it is shown."""

    feature_dim = 2

    def __init__(self, name: str = "brightness@0") -> None:
        self.name, self.shown = name, list[int]()

    def __call__(self, pictures: Sequence[Pixels]) -> FeatureArray:
        self.shown.append(len(pictures))
        return np.array([[picture.mean() or np.nan, len(picture)] for picture in pictures])


def many(count: int) -> Iterator[Pixels]:
    for number in range(count):
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[:2, 0, 0] = divmod(number, 256)
        yield picture


@pytest.fixture
def store(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path)


def test_rows_come_in_order_from_every_extractor(store: ArrayCache) -> None:
    one, other = Brightness(), Brightness("twice@0")
    rows = extract_features(many(10), [one, other], store, BATCH)
    expected = Brightness()(list(many(10)))
    assert list(rows) == ["brightness@0", "twice@0"]
    for found in rows.values():
        np.testing.assert_array_equal(found, expected)  # to the last bit, NaN for the first picture
        assert found.dtype == np.float64
    assert one.shown == other.shown == [4, 4, 2]


def test_what_is_in_the_store_is_not_computed_again(store: ArrayCache) -> None:
    cold = extract_features(many(10), [Brightness()], store, BATCH)
    warm = Brightness()
    again = extract_features(many(12), [warm], store, 5)
    np.testing.assert_array_equal(again["brightness@0"][:10], cold["brightness@0"])
    assert warm.shown == [2]  # the two that are new


def test_equal_images_are_shown_once_and_another_shape_is_another_image(store: ArrayCache) -> None:
    picture, once = np.ones((4, 9, 3), np.uint8), Brightness()
    rows = extract_features([picture, picture.copy(), picture.reshape(9, 4, 3), picture[::-1]], [once], store)
    assert once.shown == [2]
    assert rows[once.name][:, 1].tolist() == [4, 4, 9, 4]
    assert image_hash(picture) == image_hash(np.asfortranarray(picture))


def test_another_name_is_another_space_and_stays_inside_of_the_store(tmp_path: Path) -> None:
    for name in ("a@0", "a@1", "../a@0"):
        extractor = Brightness(name)
        extract_features(many(2), [extractor], ArrayCache(tmp_path / "store"))
        assert extractor.shown == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_no_images(store: ArrayCache) -> None:
    assert extract_features([], [Brightness()], store)["brightness@0"].shape == (0, 2)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(store: ArrayCache) -> None:
    bytes_each, peaks = SIDE * SIDE * 3, []
    for count in (100, 1000):
        extractor = Brightness()
        gc.collect()
        tracemalloc.start()
        rows = extract_features(many(count), [extractor], store, BATCH)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(rows[extractor.name]) == count
        assert max(extractor.shown) == BATCH
    # A test run allocates besides, so the margins are wide; 100 pictures at once would be past the first, 900 past the second.
    assert peaks[0] < 60 * bytes_each
    assert peaks[1] - peaks[0] < 100 * bytes_each
