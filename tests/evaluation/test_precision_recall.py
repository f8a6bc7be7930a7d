"""Precision, recall, density and coverage against torch-fidelity, ball by ball, and on a scene whose answer is seen."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics import precision_recall as module
from tenth.evaluation.metrics.precision_recall import coverage, density, precision, recall

ALL = (precision, recall, density, coverage)


def images(rows):
    """Each image of a person of its own."""
    return Features(np.asarray(rows, np.float64), tuple(map(str, range(len(rows)))))


def cloud(seed, n, width, *, shift=0.0, spread=1.0):
    return shift + spread * np.random.default_rng(seed).normal(size=(n, width))


def values(a, b, **settings):
    return tuple(metric(generated=images(a), held_out=images(b), **settings).value for metric in ALL)


def ball_by_ball(a, b, k):
    """The definitions, one pair at a time. a: generated, b: held out."""

    def distance(x, y):
        return float(np.linalg.norm(x - y))

    def radius(i, rows):
        return sorted(distance(rows[i], other) for j, other in enumerate(rows) if j != i)[k - 1]

    photos, drawn = ([(row, radius(i, rows)) for i, row in enumerate(rows)] for rows in (b, a))
    return (
        np.mean([any(distance(x, y) <= reach for y, reach in photos) for x in a]),
        np.mean([any(distance(y, x) <= reach for x, reach in drawn) for y in b]),
        np.sum([[distance(x, y) < reach for y, reach in photos] for x in a]) / (k * len(a)),
        np.mean([any(distance(x, y) < reach for x in a) for y, reach in photos]),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_they_are_their_definitions(k):
    a, b = cloud(1, 40, 3, shift=0.5), cloud(2, 60, 3)
    assert values(a, b, k=k) == pytest.approx(ball_by_ball(a, b, k), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "width", "k"), [(200, 300, 8, 3), (150, 100, 64, 5)])
def test_precision_and_recall_are_torch_fidelitys(n, m, width, k):
    a, b = cloud(1, n, width, shift=0.1, spread=0.9), cloud(2, m, width)
    sides = (torch.from_numpy(a), torch.from_numpy(b))
    theirs = prc_features_to_metric(*sides, prc_neighborhood=k, verbose=False)
    assert values(a, b, k=k)[:2] == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-7)  # its means are float32
    assert 0 < theirs["recall"] < 1


def test_a_few_copied_photos_are_precise_and_forget_the_rest():
    photos = np.concatenate([cloud(group, 20, 4, shift=20 * group) for group in range(5)])
    few = photos[:20] + cloud(9, 20, 4, spread=0.01)  # near one group of five
    exact, remembered = values(few, photos)[:2]
    assert exact == 1
    assert remembered == pytest.approx(0.2, abs=0.03)
    assert values(photos, few)[:2] == (remembered, exact)  # the sides swapped: the numbers swap
    assert values(few, photos)[3] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("copies", [1, 2])
def test_anchor_held_out_itself_scores_one(copies):
    photos = np.tile(cloud(1, 100, 16), (copies, 1))
    assert values(photos, photos) == (1, 1, 1 if copies == 1 else pytest.approx(1, abs=0.2), 1)


def test_law_they_are_greatest_when_generated_is_held_out():
    photos = cloud(1, 100, 16)
    best = values(photos, photos)
    for other in (cloud(2, 100, 16), photos + 1, photos + cloud(3, 100, 16), photos[:50] * 1.5, cloud(2, 100, 16, shift=9)):
        assert all(one <= greatest for one, greatest in zip(values(other, photos), best, strict=True))
    assert values(photos + 100, photos) == (0, 0, 0, 0)


def test_density_alone_exceeds_one_where_images_crowd_into_the_middle():
    found = density(generated=images(cloud(2, 100, 4, spread=0.01)), held_out=images(cloud(1, 100, 4)))
    assert found.value > 1.5
    assert recall(generated=images(cloud(2, 100, 4, spread=0.01)), held_out=images(cloud(1, 100, 4))).value < 0.1


def test_density_is_one_on_average_for_another_draw():
    found = [
        density(generated=images(cloud(seed, 60, 3)), held_out=images(cloud(seed + 900, 60, 3))).value for seed in range(60)
    ]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(60))


def test_blocks_and_the_order_of_images_do_not_change_them(monkeypatch):
    a, b = cloud(1, 50, 5), cloud(2, 70, 5)
    whole = values(a, b)
    monkeypatch.setattr(module, "BLOCK", 11)
    assert values(a[::-1], b[::-1]) == pytest.approx(whole, abs=1e-12)
    assert values(b, b) == (1, 1, 1, 1)


def test_the_distances_of_all_pairs_are_never_in_memory_at_once(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 20)
    a, b = cloud(1, 1_000, 4), cloud(2, 1_000, 4)
    tracemalloc.start()
    try:
        assert 0 < min(values(a, b)) <= 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # of all pairs: 8 MB


def test_far_from_zero_they_are_the_same():
    a, b = cloud(1, 50, 5), cloud(2, 70, 5)
    assert values(a + 1e5, b + 1e5) == pytest.approx(values(a, b), abs=1e-12)


def test_the_scores_say_what_they_are():
    sides = {"generated": images(cloud(1, 50, 5)), "held_out": images(cloud(2, 70, 5))}
    for metric in ALL:
        score = metric(**sides)
        assert (score.n, score.low) == (50, None)


@pytest.mark.parametrize(("metric", "n", "m", "side"), [(precision, 9, 3, "held-out"), (recall, 3, 9, "generated")])
def test_a_ball_needs_more_images_than_neighbours(metric, n, m, side):
    with pytest.raises(DataError, match=f"3 {side} images and k = 3; k from 1 to below their number is needed. Add images."):
        metric(generated=images(cloud(1, n, 4)), held_out=images(cloud(2, m, 4)))


def test_one_generated_image_can_be_precise():
    photos = images(cloud(2, 30, 4))
    assert precision(generated=images(photos.vectors[:1]), held_out=photos).value == 1
