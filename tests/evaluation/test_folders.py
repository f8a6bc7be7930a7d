"""Two folders, toy extractors in place of networks: which metrics there are, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError, PhotoError
from tenth.core.types import FeatureArray, Pixels
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, MISSING
from tenth.evaluation.folders import (
    NO_ATTRIBUTES,
    NO_PEOPLE,
    NO_REFERENCES,
    FolderEvaluation,
    RealFolders,
    evaluate_folders,
    evaluation_to_json,
    evaluation_to_table,
)
from tenth.evaluation.metrics.frechet import frechet_distance
from tenth.evaluation.metrics.recognition import groups, verification
from tenth.evaluation.metrics.recognition.identification import RANK_METRICS
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES
from tenth.evaluation.registry import METRICS
from toy_extractors import Brightness, Patches

IMAGES = 12  # inception-score takes ten splits


class Corners:
    """The colours of a picture's corners; no face in a black picture."""

    name, feature_dim = "corners@0", 12

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, pictures: Sequence[Pixels]) -> FeatureArray:
        self.shown += len(pictures)
        rows = np.array([picture[:: len(picture) - 1, :: picture.shape[1] - 1].ravel() for picture in pictures], float)
        return np.where(rows.any(1, keepdims=True), rows / 255, np.nan)


class Toy(Corners):
    """In Inception's place: rows (N, 3056)."""

    name, feature_dim, disclaimer = "toy@0", 3056, "Toy weights: nothing means anything."

    def __call__(self, pictures: Sequence[Pixels]) -> FeatureArray:
        return np.nan_to_num(np.tile(super().__call__(pictures), 255))[:, : self.feature_dim]


def save(folder: Path, seed: int, count: int = IMAGES) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(random.integers(1, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def measured(tmp_path: Path, inception: Toy | None = None, face: Corners | None = None, **folders: Path) -> FolderEvaluation:
    networks = {} if inception is None else {INCEPTION: inception, DINOV2: Patches(), FACE_QUALITY: Brightness()}
    generated, real = folders.pop("generated"), RealFolders(**folders)
    return evaluate_folders(
        generated=generated, real=real, recognizer=face or Corners(), networks=networks, store=ArrayCache(tmp_path / "store")
    )


def by_name(evaluation: FolderEvaluation) -> dict[str, Any]:
    return dict(evaluation.scores)


def test_every_metric_of_two_folders(tmp_path: Path) -> None:
    sides = {"generated": save(tmp_path / "g", 0), "held_out": save(tmp_path / "r", 1)}
    found = measured(tmp_path, Toy(), **sides)
    scores = by_name(found)
    assert list(scores) == [name for name, row in METRICS.items() if not {"prompts", "threshold"} & set(row.needs)]
    missing = {name: score.unavailable for name, score in scores.items() if score.value is None}
    of_several = {*RANK_METRICS, *FALSE_ACCEPT_RATES, "impostor-similarity"}
    assert set(missing) == {*of_several, "copy-paste-index", *groups.GENDER_METRICS}  # there is no other person
    assert missing["gender-gap"] == NO_ATTRIBUTES
    assert missing["copy-paste-index"] == NO_REFERENCES
    rows = [Corners()([np.asarray(Image.open(path)) for path in sorted(side.iterdir())]) for side in sides.values()]
    assert scores["face-frechet-distance"].value == pytest.approx(frechet_distance(*rows))
    assert scores["fd-dinov2"].value == pytest.approx(frechet_distance(rows[0][:, :5], rows[1][:, :5]))
    assert scores["face-quality"].value == pytest.approx(rows[0].mean() - 0.4)
    assert found.disclaimer == Toy.disclaimer
    assert "one person" in found.notes[0]


def test_the_same_folder_twice(tmp_path: Path) -> None:
    side = save(tmp_path / "g", 0)
    scores = by_name(measured(tmp_path, Toy(), generated=side, held_out=side))
    assert scores["fid"].value == pytest.approx(0, abs=1e-9)
    assert scores["face-frechet-distance"].value == pytest.approx(0, abs=1e-9)
    assert {scores[name].value for name in ("precision", "recall", "density", "coverage")} == {1.0}


def test_without_inception_the_rest_still_runs(tmp_path: Path) -> None:
    found = measured(tmp_path, generated=save(tmp_path / "g", 0), held_out=save(tmp_path / "r", 1))
    scores = by_name(found)
    for name in ("fid", "fid-infinity", "kid", "mind", "inception-score"):
        assert scores[name].unavailable == MISSING[INCEPTION]
    assert MISSING[INCEPTION].startswith("needs the Inception file")
    assert scores["fd-dinov2"].unavailable == MISSING[DINOV2]
    assert scores["face-quality"].unavailable == MISSING[FACE_QUALITY]
    assert scores["face-frechet-distance"].value is not None
    assert found.disclaimer == ""


def test_people_are_compared_with_themselves(tmp_path: Path) -> None:
    for side in ("g", "r"):
        for seed, person in enumerate(("anna", "ben")):
            save(tmp_path / side / person, seed, 3)  # the same pictures on both sides
    scores = by_name(measured(tmp_path, generated=tmp_path / "g", held_out=tmp_path / "r"))
    assert scores["identity-similarity"].n == 2
    assert scores["identity-similarity"].value > scores["impostor-similarity"].value


def test_many_people_have_ranks_thresholds_and_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve people, the same pictures on both sides: the right one is always first. References add pairs of two people."""
    for seed in range(12):
        for side, count in (("g", 1), ("given", 3)):
            save(tmp_path / side / f"person {seed}", seed, count)
    monkeypatch.setattr(verification, "MIN_FALSE_ACCEPTS", 0.05)
    generated, given = tmp_path / "g", tmp_path / "given"
    scores = by_name(measured(tmp_path, generated=generated, held_out=generated))
    assert {scores[name].value for name in RANK_METRICS} == {1.0}
    assert scores["rank-1-rate"].n == 12
    assert scores["true-accept-rate-1e-3"].value == 1
    assert "66 pairs of two people's real photos" in scores["true-accept-rate-1e-4"].unavailable
    scores = by_name(measured(tmp_path, generated=generated, held_out=generated, references=given))
    assert scores["true-accept-rate-1e-4"].value == 1  # of 1,056 pairs

    monkeypatch.setattr(groups, "MIN_GROUP_PEOPLE", 3)
    write_manifest(tmp_path / "people.jsonl", [entry(f"person {seed}", "man" if seed < 4 else "woman") for seed in range(11)])
    found = by_name(measured(tmp_path, generated=generated, held_out=generated, people=tmp_path / "people.jsonl"))
    assert (found["gender-gap"].n, found["gender-gap"].unavailable) == (11, "")


def entry(person: str, noun: str) -> ManifestEntry:
    caption = f"a photo of a {noun}"
    return ManifestEntry(f"{person}/0.png", person, "test", 0, caption, (caption,), "0" * 64)


def test_a_copied_reference_is_distinguished_from_a_new_photo(tmp_path: Path) -> None:
    """The images are the references, or the held-out photos: 1 and -1, for each of two people."""
    for seed, person in enumerate(("anna", "ben")):
        save(tmp_path / "given" / person, seed, 1)
        save(tmp_path / "kept" / person, seed + 2, 2)
    given, kept = tmp_path / "given", tmp_path / "kept"
    copied = by_name(measured(tmp_path, generated=given, held_out=kept, references=given))["copy-paste-index"]
    assert (copied.value, copied.n) == (pytest.approx(1), 2)
    new = by_name(measured(tmp_path, generated=kept, held_out=kept, references=given))["copy-paste-index"]
    assert new.value == pytest.approx(-1)
    same = by_name(measured(tmp_path, generated=given, held_out=kept, references=kept))["copy-paste-index"]
    assert "a held-out photo of anna is also a reference" in same.unavailable


def test_references_are_read_for_faces_alone_and_in_the_same_layout(tmp_path: Path) -> None:
    sides = {"generated": save(tmp_path / "g", 0), "held_out": save(tmp_path / "r", 1)}
    network = Toy()
    found = measured(tmp_path, network, **sides, references=save(tmp_path / "given", 2, 1))
    assert by_name(found)["copy-paste-index"].value is not None
    assert network.shown == 2 * IMAGES
    save(tmp_path / "people" / "anna", 3, 1)
    with pytest.raises(DataError, match=f"{tmp_path / 'people'} has a folder for each person; the layout of .* is needed"):
        measured(tmp_path, **sides, references=tmp_path / "people")


def test_a_flat_folder_against_people_leaves_identity_out(tmp_path: Path) -> None:
    save(tmp_path / "r" / "anna", 0)
    scores = by_name(measured(tmp_path, generated=save(tmp_path / "g", 1), held_out=tmp_path / "r"))
    assert scores["identity-similarity"].unavailable == scores["impostor-similarity"].unavailable == NO_PEOPLE
    assert scores["face-detection-rate"].value == 1
    assert scores["precision"].value is not None


def test_images_without_a_face_count_in_detection_alone(tmp_path: Path) -> None:
    generated = save(tmp_path / "g", 0, 3)
    Image.new("RGB", (8, 8)).save(generated / "black.png")
    scores = by_name(measured(tmp_path, generated=generated, held_out=save(tmp_path / "r", 1)))
    assert scores["face-detection-rate"].value == 0.75
    assert scores["face-frechet-distance"].n == 3


def test_the_second_time_no_network_runs(tmp_path: Path) -> None:
    sides = {"generated": save(tmp_path / "g", 0), "held_out": save(tmp_path / "r", 1)}
    cold = measured(tmp_path, Toy(), **sides)
    network, face = Toy(), Corners()
    warm = measured(tmp_path, network, face, **sides)
    assert network.shown == face.shown == 0
    assert warm.scores == cold.scores


def test_a_damaged_image_is_an_error(tmp_path: Path) -> None:
    generated = save(tmp_path / "g", 0)
    (generated / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PhotoError, match=r"g/3\.png"):
        measured(tmp_path, generated=generated, held_out=save(tmp_path / "r", 1))


def test_json_and_table_say_all(tmp_path: Path) -> None:
    found = measured(tmp_path, Toy(), generated=save(tmp_path / "g", 0), held_out=save(tmp_path / "r", 1))
    printed = evaluation_to_json(found)
    assert set(printed) == {"metrics", "disclaimer"}
    assert all(
        set(row) == {"value", "low", "high", "n", "higher_is_better", "unavailable"} for row in printed["metrics"].values()
    )
    lines = evaluation_to_table(found).splitlines()
    assert lines[0] == Toy.disclaimer
    known = [name for name, row in printed["metrics"].items() if row["value"] is not None]
    assert [line.split()[0] for line in lines[1 : 1 + len(known)]] == known
    others = [name for line in lines[1 + len(known) :] for name in line.partition(": ")[0].split(", ")]
    assert {*known, *others} == printed["metrics"].keys()
    assert len(known) + len(others) == len(printed["metrics"])
    assert sum("there is no other person" in line for line in lines) == 1
