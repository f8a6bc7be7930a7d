"""Known angles by hand: unit vectors in a plane, in degrees."""

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.diversity import diversity_per_person, identity_diversity

NO_FACE = float("nan")


def at(**degrees):
    """anna=[0, 90] -> two rows of anna at these angles; NaN is a picture without a face."""
    tags = [(person, angle) for person, angles in degrees.items() for angle in np.atleast_1d(angles)]
    angles = np.radians([angle for _, angle in tags])
    return Features(np.column_stack([np.cos(angles), np.sin(angles)]), tuple(person for person, _ in tags))


def diversity(features):
    return identity_diversity(generated=features, held_out=features)


def test_it_is_the_mean_over_people_of_all_pairs():
    score = diversity(at(anna=[0, 60, 90], bert=[0, 180]))
    anna = 1 - (0.5 + 0 + np.sqrt(3) / 2) / 3
    assert score.value == pytest.approx((anna + 2) / 2)
    assert score.n == 2
    assert score.low <= score.value <= score.high


def test_anchors_copies_score_zero_and_right_angles_one():
    assert diversity(at(anna=[37] * 5, bert=[80] * 3)).value == pytest.approx(0, abs=1e-15)
    assert diversity(at(anna=[0, 90], bert=[45, 135])).value == pytest.approx(1)


def test_people_are_different_and_that_does_not_count():
    assert diversity(at(anna=[0, 0], bert=[90, 90], carl=[180, 180])).value == pytest.approx(0, abs=1e-15)


def test_the_length_and_order_of_rows_do_not_matter():
    one = at(anna=[10, 40, 90], bert=[70, 80])
    other = Features(one.vectors[::-1] * 7, one.people[::-1])
    assert diversity(other).value == pytest.approx(diversity(one).value)


def test_images_without_a_face_and_people_with_one_image_are_left_out():
    assert diversity_per_person(at(anna=[0, NO_FACE, 60], bert=5, carl=[1, NO_FACE])) == pytest.approx({"anna": 0.5})
    nobody = diversity(at(anna=[0, NO_FACE], bert=5))
    assert nobody.value is None
    assert nobody.unavailable == "nobody has two images with a face"


@pytest.mark.parametrize("bad", [np.zeros((1, 2)), np.ones((2, 2)), np.array([[np.nan, 1.0]])])
def test_rows_that_are_no_embeddings_are_refused(bad):
    with pytest.raises(DataError, match="one row"):
        diversity(Features(bad, ("anna",)))
