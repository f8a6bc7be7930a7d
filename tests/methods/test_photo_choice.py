"""Which photos are taken as context: of the person, near to all together, sharp, differently posed, and as the user says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from tenth.core.types import Face, Photo
from tenth.methods import photo_choice
from tenth.methods.photo_choice import FaceFeatures, Objective, choose_photos
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

CENTER = read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double().numpy()
FACE = Face((20, 20, 60, 60), np.array([(52.0, 35), (46, 35), (28, 35), (34, 35), (40, 48)]))


def descriptors(count: int, seed: int = 0, spread: float = 0.15) -> np.ndarray:
    """Of photos of one person: (count, 128), around a point of the person's own."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=128)
    return CENTER + 0.6 * own / np.linalg.norm(own) + spread * rng.normal(size=(count, 128)) / np.sqrt(128)


def photo(number: int, turn: float = 0.0, *, blurred: bool = False, faceless: bool = False) -> Photo:
    """A photo of noise, which is sharp, or of nothing. turn: by how many pixels the nose is beside the middle of the eyes."""
    pixels = np.random.default_rng(number).integers(0, 256, (100, 80, 3), np.uint8)
    face = Face(FACE.box, FACE.landmarks + np.array([(0, 0)] * 4 + [(turn, 0)]))
    return Photo(np.full_like(pixels, 90) if blurred else pixels, f"{number:064x}", f"{number}.png", None if faceless else face)


def chosen(photos: Sequence[Photo], count: int, rows: np.ndarray, weights: Sequence[float] | None = None) -> list[str]:
    known = {each.digest: row for each, row in zip(photos, rows, strict=True)}
    choice = choose_photos(photos, count, lambda each: known[each.digest], weights)
    assert sorted([*choice.indices, *choice.left_out]) == list(range(len(photos)))
    return [photos[index].file for index in choice.indices]


def test_as_few_as_are_read_are_all_taken_in_an_order_of_their_own() -> None:
    photos, rows = [photo(number) for number in range(3)], descriptors(3)
    taken = chosen(photos, 4, rows)
    assert sorted(taken) == ["0.png", "1.png", "2.png"]
    assert chosen(photos[::-1], 4, rows[::-1]) == taken


def test_the_order_of_many_photos_changes_nothing() -> None:
    photos, rows = [photo(number, turn=number - 4) for number in range(9)], descriptors(9)
    order = np.random.default_rng(1).permutation(9)
    assert chosen([photos[index] for index in order], 4, rows[order]) == chosen(photos, 4, rows)


@pytest.mark.parametrize("num_strangers", [1, 2, 3])
def test_another_person_is_never_taken(num_strangers: int) -> None:
    rows = np.concatenate([descriptors(6), descriptors(num_strangers, seed=5)])
    photos = [photo(number, turn=8.0 if number >= 6 else 0.0) for number in range(len(rows))]  # who would add another pose
    known = {each.digest: row for each, row in zip(photos, rows, strict=True)}
    choice = choose_photos(photos, 8, lambda each: known[each.digest])
    assert sorted(choice.indices) == list(range(6))
    assert {choice.left_out[index] for index in range(6, len(rows))} == {"its face seems to be somebody else's"}


def test_of_two_people_as_often_nobody_is_left_out() -> None:
    photos, rows = [photo(0), photo(1)], np.concatenate([descriptors(1), descriptors(1, seed=5)])
    assert sorted(chosen(photos, 2, rows)) == ["0.png", "1.png"]


def test_a_turned_head_is_taken_and_a_blurred_photo_is_not() -> None:
    rows = np.repeat(descriptors(1), 5, 0)
    turned = [photo(0), photo(1), photo(2), photo(3, turn=12.0), photo(4, blurred=True)]
    taken = chosen(turned, 2, rows)
    assert "3.png" in taken
    assert "4.png" not in taken


def test_the_user_s_weights_come_first() -> None:
    photos, rows = [photo(number) for number in range(6)], descriptors(6)
    assert "5.png" not in chosen(photos, 6, rows, [1, 1, 1, 1, 1, 0])
    taken = chosen(photos, 3, rows, [1, 1, 2, 1, 3, 1])
    assert taken[:2] == ["4.png", "2.png"]
    assert len(taken) == 3
    assert chosen(photos, 1, rows, [1, 1, 2, 1, 3, 1]) == ["4.png"]


def test_a_photo_without_a_face_comes_last_and_is_still_taken() -> None:
    photos = [photo(0, faceless=True), photo(1), photo(2, faceless=True)]
    rows = np.concatenate([descriptors(3)])
    assert chosen(photos, 2, rows) == ["1.png", "0.png"]
    assert chosen([photos[0]], 2, rows[:1]) == ["0.png"]
    assert chosen(photos, 1, rows, [2, 1, 1]) == ["0.png"]


def test_a_copy_is_taken_once() -> None:
    photos = [photo(4), photo(4), photo(4)]
    known = descriptors(1)[0]
    choice = choose_photos(photos, 3, lambda _: known)
    assert len(choice.indices) == 1
    assert set(choice.left_out.values()) == {"it is a copy of another one"}


def features(count: int) -> FaceFeatures:
    rng = np.random.default_rng(count)
    return FaceFeatures(descriptors(count), rng.uniform(20, 400, count), rng.normal(0, 15, (count, 2)))


def test_the_objective_is_what_it_says() -> None:
    given, subset = features(6), [1, 3, 4]
    objective = Objective(given, np.ones(6))
    centered = given.descriptors - CENTER
    embeddings = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    others = embeddings.sum(0) - embeddings
    logits = 6 * (embeddings * others).sum(1) / np.linalg.norm(others, axis=1)
    weights = np.exp(logits - logits.max())
    consensus, mean = weights @ embeddings, embeddings[subset].mean(0)
    near = mean @ consensus / np.linalg.norm(mean) / np.linalg.norm(consensus)
    quality = np.mean([min(0, np.log(given.sharpness[index] / photo_choice.ENOUGH_SHARPNESS)) for index in subset])
    pairs = [np.linalg.norm(given.poses[one] - given.poses[other]) for one, other in combinations(subset, 2)]
    turns = np.mean([min(1, each / photo_choice.FULL_TURN) for each in pairs])
    expected = near + photo_choice.SHARPNESS * quality + photo_choice.POSE * turns
    assert objective(np.array([subset]))[0] == pytest.approx(expected, abs=1e-12)


def test_swaps_find_what_comparing_all_subsets_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(features(12), np.ones(12))
    exact = objective.best([0], range(1, 12), 3)
    assert float(objective(np.array([[0, *exact]]))[0]) == max(
        float(objective(np.array([[0, *some]]))[0]) for some in combinations(range(1, 12), 3)
    )
    monkeypatch.setattr(photo_choice, "MAX_SUBSETS", 1)
    assert sorted(objective.best([0], range(1, 12), 3)) == sorted(exact)
