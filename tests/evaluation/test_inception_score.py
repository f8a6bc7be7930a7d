"""Inception Score against torch-fidelity, and where the classes are known."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.inception_score import inception_score, inception_scores


def images(rows):
    return Features(np.asarray(rows, np.float64), tuple(map(str, range(len(rows)))))


def logits(seed, n, classes=1008, *, scale=3.0):
    return scale * np.random.default_rng(seed).normal(size=(n, classes))


def sure(classes, repeats, *, of=1008):
    """Rows that leave no doubt of their class, each class `repeats` times."""
    return 1e4 * np.eye(of)[np.repeat(np.arange(classes), repeats)]


@pytest.mark.parametrize(("n", "splits", "seed"), [(100, 10, 2020), (107, 10, 2020), (53, 4, 7), (10, 10, 2020)])
def test_it_is_torch_fidelitys(n, splits, seed):
    rows = logits(1, n)
    theirs = isc_features_to_metric(torch.from_numpy(rows), splits=splits, rng_seed=seed)
    score = inception_score(generated=images(rows), splits=splits, seed=seed)
    assert score.value == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    spread = inception_scores(rows, splits=splits, seed=seed).std()
    assert spread == pytest.approx(theirs["inception_score_std"], rel=1e-8, abs=1e-12)


def test_the_defaults_are_torch_fidelitys():
    from torch_fidelity.defaults import DEFAULTS

    rows = logits(1, 64)
    theirs = isc_features_to_metric(torch.from_numpy(rows), DEFAULTS["isc_splits"], True, DEFAULTS["rng_seed"])
    assert inception_score(generated=images(rows)).value == pytest.approx(theirs["inception_score_mean"], rel=1e-10)


def test_anchor_equal_images_score_one():
    score = inception_score(generated=images(np.tile(logits(1, 1), (30, 1))))
    assert score.value == pytest.approx(1, abs=1e-12)
    assert (score.n, score.low) == (30, None)


def test_anchor_sure_images_of_seven_classes_score_seven():
    assert inception_score(generated=images(sure(7, 5)), splits=1).value == pytest.approx(7, rel=1e-12)
    assert inception_score(generated=images(sure(7, 5)), splits=5).value < 7  # no split has all classes evenly


def test_huge_logits_stay_finite():
    assert np.isfinite(inception_scores(1e6 * logits(1, 40), splits=4)).all()


def test_photos_of_the_person_are_not_looked_at():
    generated = images(logits(1, 20))
    assert inception_score(generated=generated, held_out=images(logits(2, 5))) == inception_score(generated=generated)


def test_more_splits_than_images_are_refused():
    with pytest.raises(DataError, match=r"6 images for 10 splits; .*needed\. Add images, or take fewer splits\."):
        inception_score(generated=images(logits(1, 6)))
    with pytest.raises(DataError, match="for 0 splits"):
        inception_score(generated=images(logits(1, 6)), splits=0)


@pytest.mark.parametrize("bad", [np.full((20, 8), np.nan), np.zeros((0, 8)), np.zeros(8)])
def test_rows_that_are_no_logits_are_refused(bad):
    with pytest.raises(DataError, match=r"(is|are) needed|needs a whole row"):
        inception_score(generated=images(bad))
