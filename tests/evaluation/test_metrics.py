"""Laws over every metric of the catalog: law 5 of the anchors, and what each must say of itself."""

from pathlib import Path

import numpy as np
import pytest

from tenth.core.types import Features
from tenth.evaluation.metrics.recognition import verification
from tenth.evaluation.registry import METRICS

OF_NO_SIDES = {"prompts", "threshold", "attributes", "face-quality"}
OF_SIDES = [name for name, row in METRICS.items() if not OF_NO_SIDES & set(row.needs)]
DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
DISTANCES = ("face-frechet-distance", "fid", "fid-infinity", "kid", "mind", "fd-dinov2")
SHARES = ("precision", "recall", "coverage")  # density is 1 for held-out itself and has no greatest value
EXTREMES = {
    "face-detection-rate": 1.0,
    "identity-diversity": 0.0,
    "inception-score": 1.0,
}  # of copies of one image: see `one_image`


def photos(seed: int, *, people: int = 12, each: int = 8, noise: float = 0.5) -> Features:
    """Photos around a direction per person, 16 wide."""
    centres = np.random.default_rng(0).normal(size=(people, 1, 16))
    rows = centres + noise * np.random.default_rng(seed).normal(size=(people, each, 16))
    return Features(rows.reshape(-1, 16), tuple(f"person {index:02}" for index in range(people) for _ in range(each)))


def scored(name: str, generated: Features, held_out: Features) -> float:
    value = METRICS[name].function(generated=generated, held_out=held_out, references=photos(3)).value
    assert value is not None
    return value


@pytest.mark.parametrize("name", OF_SIDES)
def test_a_score_repeats_and_counts(name, monkeypatch):
    monkeypatch.setattr(verification, "MIN_FALSE_ACCEPTS", 1)  # of 16,896 pairs
    sides = {"generated": photos(1), "held_out": photos(2), "references": photos(3)}
    score = METRICS[name].function(**sides)
    assert score == METRICS[name].function(**sides)
    assert np.isfinite(score.value)
    assert score.n in (12, 12 * 8)  # people where there is an interval over them, else images
    assert (score.low is None) == (score.high is None) == (score.n == 12 * 8)


@pytest.mark.parametrize("name", METRICS)
def test_the_page_has_a_row_of_every_metric(name):
    rows = [line.split("|") for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |")]
    (row,) = [cells for cells in rows if len(cells) > 5]  # the table of shards' costs has fewer columns
    assert row[3].strip() == ("higher" if METRICS[name].higher_is_better else "lower")
    assert row[4].strip() or "CLIP" in METRICS[name].needs  # the known cases


OTHERS = {  # as many images as held-out photos: fewer images can be nearer by chance, since two of the distances have no bias
    "another draw": photos(1),
    "wilder": photos(1, noise=1.5),
    "other people": Features(np.roll(photos(1).vectors, 5, axis=1), photos(1).people),
    "half of it twice": Features(np.tile(photos(2).vectors[:48], (2, 1)), photos(2).people),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", [*DISTANCES, *SHARES])
def test_law_5_nothing_is_nearer_than_held_out_itself(name, other):
    itself, found = scored(name, photos(2), photos(2)), scored(name, OTHERS[other], photos(2))
    assert found > itself if name in DISTANCES else found <= itself


@pytest.mark.parametrize("name", DISTANCES)
def test_law_5_a_distance_grows_with_the_shift(name):
    shifted = [Features(photos(2).vectors + shift, photos(2).people) for shift in (0.0, 0.2, 0.4, 0.8)]
    found = [scored(name, images, photos(2)) for images in shifted]
    assert found == sorted(found)


def test_law_5_precision_and_recall_swap_with_the_sides():
    a, b = photos(1), photos(2, each=5, noise=0.8)
    assert scored("precision", a, b) == scored("recall", b, a) != scored("recall", a, b)


@pytest.mark.parametrize("name", EXTREMES)
def test_one_image_again_and_again_has_its_known_value(name):
    one = Features(np.tile(photos(1).vectors[:1], (96, 1)), photos(1).people)
    assert scored(name, one, photos(2)) == pytest.approx(EXTREMES[name], abs=1e-12)
