"""Known cosines by hand: unit vectors in a plane, an angle in degrees each."""

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.identity import (
    copy_paste_index,
    face_detection_rate,
    identity_similarity,
    identity_similarity_per_person,
    impostor_similarity,
    score_of_shares,
    score_over_people,
    true_accept_rate,
)

COS_60, COS_30, COS_45 = 0.5, np.sqrt(3) / 2, np.sqrt(0.5)
NO_FACE = float("nan")


def at(**degrees: float | list[float]) -> Features:
    """anna=[0, 90] -> two rows of anna at these angles; NaN is a picture without a face."""
    tags = [(person, angle) for person, angles in degrees.items() for angle in np.atleast_1d(angles)]
    angles = np.radians([angle for _, angle in tags])
    return Features(np.column_stack([np.cos(angles), np.sin(angles)]), tuple(person for person, _ in tags))


def crowd(seed: int, *, people: int = 30, photos: int = 4, noise: float = 0.6, shift: int = 0) -> Features:
    """Photos in 64 dimensions around a direction per person; `shift` deals each person another's photos."""
    centres = np.random.default_rng(0).normal(size=(people, 64))
    rows = np.roll(centres, shift, 0)[:, None] + noise * np.random.default_rng(seed).normal(size=(people, photos, 64))
    return Features(rows.reshape(-1, 64), tuple(f"person {index:02}" for index in range(people) for _ in range(photos)))


def test_identity_is_the_mean_over_people_of_the_mean_cosine():
    score = identity_similarity(generated=at(anna=[0, 60], bert=120), held_out=at(anna=[60, 0], bert=90))
    assert score.value == pytest.approx(((0.5 + 1 + 1 + 0.5) / 4 + COS_30) / 2)
    assert score.n == 2
    assert score.low <= score.value <= score.high


def test_impostor_weighs_each_other_person_the_same():
    held_out = at(anna=0, bert=[60, 60, 60], carl=90)
    score = impostor_similarity(generated=at(anna=0), held_out=held_out)
    assert score.value == pytest.approx((COS_60 + 0) / 2)


def test_the_length_of_a_row_and_the_order_of_rows_do_not_matter():
    one, held_out = at(anna=[10, 20], bert=[70, 80]), at(anna=0, bert=90)
    other = Features(one.vectors[::-1] * 7, one.people[::-1])
    assert identity_similarity(generated=other, held_out=held_out).value == pytest.approx(
        identity_similarity(generated=one, held_out=held_out).value
    )


def test_anchor_the_held_out_photo_itself_scores_one():
    photos = at(anna=10, bert=50, carl=90)
    assert identity_similarity(generated=photos, held_out=photos).value == pytest.approx(1)


def test_anchor_the_right_person_scores_above_a_impostor():
    held_out = crowd(1)
    right, wrong = (
        identity_similarity(generated=crowd(2), held_out=held_out),
        identity_similarity(generated=crowd(2, shift=1), held_out=held_out),
    )
    floor = impostor_similarity(generated=crowd(2), held_out=held_out)
    assert right.low > wrong.high
    assert right.low > floor.high
    assert abs(wrong.value) < 0.1


def test_a_missing_face_counts_as_an_impostor():
    held_out = at(anna=[0, 60], bert=90)
    impostor = (0 + COS_30) / 2  # anna's held-out photos against bert's
    score = identity_similarity(generated=at(anna=[0, NO_FACE]), held_out=held_out)
    assert score.value == pytest.approx(((1 + COS_60) / 2 + impostor) / 2)
    floor = impostor_similarity(generated=at(anna=[0, NO_FACE]), held_out=held_out)
    assert floor.value == pytest.approx((0 + impostor) / 2)


def test_a_method_without_any_face_scores_what_other_people_score():
    held_out = at(anna=0, bert=60)
    nothing = at(anna=[NO_FACE, NO_FACE], bert=NO_FACE)
    assert identity_similarity(generated=nothing, held_out=held_out).value == pytest.approx(COS_60)
    assert face_detection_rate(generated=nothing, held_out=held_out).value == 0
    assert copy_paste_index(generated=nothing, held_out=held_out, references=at(anna=5, bert=50)).unavailable


def test_losing_the_worst_images_never_helps():
    held_out, images = crowd(1), crowd(2)
    lost = images.vectors.copy()
    lost[::4] = np.nan
    missing = Features(lost, images.people)
    assert (
        identity_similarity(generated=missing, held_out=held_out).value
        < identity_similarity(generated=images, held_out=held_out).value
    )
    assert face_detection_rate(generated=missing, held_out=held_out).value == 0.75


def test_one_person_alone_has_no_impostor():
    held_out = at(anna=0)
    assert identity_similarity(generated=at(anna=60), held_out=held_out).value == pytest.approx(COS_60)
    assert identity_similarity(generated=at(anna=60), held_out=held_out).low is None
    for metric in (identity_similarity, impostor_similarity):
        score = metric(generated=at(anna=[60, NO_FACE]), held_out=held_out)
        assert score.value is None
        assert "no other person" in score.unavailable


def test_a_held_out_photo_without_a_face_is_left_out():
    assert identity_similarity(generated=at(anna=0), held_out=at(anna=[60, NO_FACE])).value == pytest.approx(COS_60)


@pytest.mark.parametrize("held_out", [at(bert=0), at(anna=NO_FACE, bert=0)])
def test_a_person_without_held_out_photo_is_an_error(held_out):
    for metric in (identity_similarity, impostor_similarity):
        with pytest.raises(DataError, match=r"anna has no held-out photo.*leave the person out"):
            metric(generated=at(anna=0), held_out=held_out)


@pytest.mark.parametrize(
    "bad",
    [
        Features(np.zeros((1, 2)), ("anna",)),
        Features(np.array([[np.nan, 1.0]]), ("anna",)),
        Features(np.array([[np.inf, 1.0]]), ("anna",)),
        Features(np.ones((2, 2)), ("anna",)),
        Features(np.ones(2), ("anna", "anna")),
        Features(np.ones((0, 2)), ()),
    ],
)
def test_rows_that_are_no_embeddings_are_refused(bad):
    with pytest.raises(DataError, match="one row"):
        identity_similarity(generated=bad, held_out=at(anna=0))


def test_anchor_a_copied_reference_has_copy_index_one():
    references, held_out = crowd(3, photos=5), crowd(4, photos=5)
    score = copy_paste_index(generated=references, held_out=held_out, references=references)
    assert score.value == pytest.approx(1, abs=1e-12)
    assert copy_paste_index(generated=held_out, held_out=held_out, references=references).value == pytest.approx(-1, abs=1e-12)


def test_anchor_a_new_photo_has_copy_index_zero_at_equal_counts():
    photos = {side: crowd(seed, photos=5) for seed, side in enumerate(("generated", "held_out", "references"), start=5)}
    score = copy_paste_index(**photos)
    assert score.low < 0 < score.high


def test_copy_index_by_hand_takes_the_nearest_of_each_side():
    score = copy_paste_index(generated=at(anna=[20, NO_FACE]), held_out=at(anna=[60, 170]), references=at(anna=[0, 150]))
    assert score.value == pytest.approx((40 - 20) / 60)


def test_copy_index_needs_references_apart_from_the_held_out_photos():
    assert "no references" in copy_paste_index(generated=at(anna=0), held_out=at(anna=9)).unavailable
    with pytest.raises(DataError, match="is also a reference"):
        copy_paste_index(generated=at(anna=0), held_out=at(anna=[9, 30]), references=at(anna=[30, 50]))
    with pytest.raises(DataError, match="no reference photo with a face"):
        copy_paste_index(generated=at(anna=0), held_out=at(anna=9), references=at(anna=NO_FACE))


def test_acceptance_counts_pairs_above_the_threshold():
    sides = {"generated": at(anna=[0, 90, NO_FACE]), "held_out": at(anna=[0, 45])}
    assert true_accept_rate(**sides, threshold=0.7).value == pytest.approx(3 / 6)  # cosines 1, .707; 0, .707; no face
    assert true_accept_rate(**sides, threshold=0.8).value == pytest.approx(1 / 6)
    assert true_accept_rate(**sides).value is None


def test_similarity_per_person_is_sorted_and_repeats():
    generated, held_out = at(carl=0, anna=60), at(anna=0, carl=45)
    found = identity_similarity_per_person(generated, held_out)
    assert list(found) == ["anna", "carl"]
    assert found["carl"] == pytest.approx(COS_45)
    assert identity_similarity(generated=generated, held_out=held_out) == identity_similarity(
        generated=generated, held_out=held_out
    )


def test_an_interval_of_cosines_may_leave_what_shares_may_not():
    few = {"anna": 0.01, "ben": 0.02, "cleo": 0.3}
    assert score_over_people(few).low < 0
    assert score_of_shares(few).low == 0
