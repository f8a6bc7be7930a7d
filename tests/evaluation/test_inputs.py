"""What every metric of image features refuses, and what it says then: what was found, what is needed, what to do."""

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.frechet import fid, fid_infinity
from tenth.evaluation.metrics.kid import kid
from tenth.evaluation.metrics.precision_recall import coverage, density, precision, recall

GOOD = np.random.default_rng(0).normal(size=(12, 4))
HOLED = np.where(np.arange(48).reshape(12, 4) == 17, np.nan, GOOD)
DISTANCES, SHARES = (fid, fid_infinity, kid), (precision, recall, density, coverage)


def images(rows):
    return Features(rows, ("anna",) * len(rows))


@pytest.mark.parametrize("metric", [*DISTANCES, *SHARES])
@pytest.mark.parametrize("side", ["generated", "held_out"])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (GOOD[:0], "0 .* images; at least . are needed. Add images"),
        (HOLED, "1 of 12 .* rows are not finite; every image needs a whole row. Embed the images again"),
        (np.where(np.isnan(HOLED), np.inf, HOLED), "1 of 12 .* rows are not finite"),
        (GOOD[:, :3], r"width [34] and .* width [34]; both sides need the same extractor. Embed both again"),
        (GOOD.ravel(), r"features of shape \(48,\); one row .* is needed. Embed the images again"),
    ],
)
def test_bad_rows_are_refused_on_either_side(metric, side, bad, said):
    sides = {"generated": images(GOOD), "held_out": images(GOOD)} | {side: images(bad)}
    with pytest.raises(DataError, match=said):
        metric(**sides)


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize(("side", "name"), [("generated", "generated"), ("held_out", "held-out")])
def test_one_image_has_no_spread(metric, side, name):
    sides = {"generated": images(GOOD), "held_out": images(GOOD)} | {side: images(GOOD[:1])}
    with pytest.raises(DataError, match=f"1 {name} image; at least 2 are needed. Add images, or leave this metric out."):
        metric(**sides)


@pytest.mark.parametrize(("metric", "side"), [(precision, "held_out"), (recall, "generated"), (coverage, "held_out")])
def test_one_image_has_no_neighbour(metric, side):
    sides = {"generated": images(GOOD), "held_out": images(GOOD)} | {side: images(GOOD[:1])}
    with pytest.raises(DataError, match=r"1 (generated|held-out) images and k = \d; k from 1"):
        metric(**sides)


@pytest.mark.parametrize("metric", [*DISTANCES, *SHARES])
def test_integers_are_numbers_too(metric):
    rows = np.random.default_rng(1).integers(0, 9, size=(12, 4))
    assert np.isfinite(metric(generated=images(rows), held_out=images(GOOD)).value)
