"""The attribute table by the package's classifier: it says what the classifier says, and nothing where that is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError
from tenth.core.types import Photo
from tenth.data.captions.attributes import read_attributes
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.evaluation.attribute_table import attribute_table, attributes_of_crops, count_unknown
from tenth.evaluation.extractors import face_attributes
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from toy_people import FACE, face_pixels

NAME = "Anna, B."
ENTRIES = [
    ManifestEntry(f"{NAME}/{number}.jpg", NAME, "test", 0, "a photo", ("a photo",), f"{number:064x}") for number in range(3)
]


class Listed:
    """Says of each photo what a list says, in order."""

    name = "by-list@0"

    def __init__(self, *logits: dict[str, float], reliable: Sequence[str] = FACE_ATTRIBUTES) -> None:
        self.logits, self.reliable, self.asked = list(logits), tuple(reliable), 0

    def __call__(self, images: Sequence[Any]) -> Any:
        self.asked += len(images)
        found = self.logits[self.asked - 1]
        return np.array([[found.get(name, 0.0) for name in FACE_ATTRIBUTES]] * len(images))


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PhotoDataset:
    """The second photo has no face."""

    def opened(self: PhotoDataset, entry: ManifestEntry) -> Photo | None:
        number = int(entry.digest, 16)
        return None if number == 1 else Photo(face_pixels(0, number), entry.digest, face=FACE)

    monkeypatch.setattr(PhotoDataset, "open_with_central_face", opened)
    return PhotoDataset(tmp_path / "people.jsonl", tmp_path)


def test_photos_of_which_nothing_is_known_are_counted(dataset: PhotoDataset, tmp_path: Path) -> None:
    one = attribute_table(dataset, ENTRIES, Listed({"smiling": 3.0}, {}), ArrayCache(tmp_path / "one"))
    none = attribute_table(dataset, ENTRIES, Listed({}, {}), ArrayCache(tmp_path / "none"))
    assert (count_unknown(one), count_unknown(none)) == (2, 3)


def test_a_table_of_nothing_is_not_written(
    dataset: PhotoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(dataset.people, ENTRIES)
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "cache"))
    command, table = ["data", "attributes", str(dataset.people), str(tmp_path), "-o"], tmp_path / "table.csv"
    monkeypatch.setattr(face_attributes, "load_face_attributes", lambda: Listed({}, {}))
    assert main([*command, str(table)]) == 1
    assert "nothing is known of any of the 3 photos" in capsys.readouterr().err
    assert not table.exists()
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "other"))
    monkeypatch.setattr(face_attributes, "load_face_attributes", lambda: Listed({"smiling": 3.0}, {}))
    assert main([*command, str(table)]) == 0
    assert "2 photos of them with no face" in capsys.readouterr().err
    assert count_unknown(table.read_text()) == 2


def read_back(text: str, folder: Path) -> Any:
    (folder / "table.csv").write_text(text)
    return read_attributes(folder / "table.csv")


def test_a_table_says_what_is_sure_and_is_read_like_any_other(dataset: PhotoDataset, tmp_path: Path) -> None:
    classifier: Any = Listed(
        {"male": 3.0, "smiling": -1.5, "hat": 0.9, "beard": -0.9, "child": 9.0},
        {"male": -1.0, "smiling": 1.0, "hat": 0.0},
        reliable=[name for name in FACE_ATTRIBUTES if name != "child"],
    )
    text = attribute_table(dataset, ENTRIES, classifier, ArrayCache(tmp_path / "cache"))
    first, second, third = (read_back(text, tmp_path)[entry.file] for entry in ENTRIES)
    assert {name: value for name, value in first.items() if value is not None} == {"gender": "M", "smiling": False}
    assert set(second.values()) == {None}  # no face
    assert {name: value for name, value in third.items() if value is not None} == {"gender": "F", "smiling": True}


def test_what_was_read_is_not_read_again(dataset: PhotoDataset, tmp_path: Path) -> None:
    classifier: Any = Listed({"male": 2.0}, {"male": -2.0})
    store = ArrayCache(tmp_path / "cache")
    text = attribute_table(dataset, ENTRIES[:2], classifier, store)
    assert attribute_table(dataset, ENTRIES, classifier, store).startswith(text)
    assert classifier.asked == 2


def test_the_packages_classifier_fills_a_table(dataset: PhotoDataset, tmp_path: Path) -> None:
    classifier = load_face_attributes()
    table = read_back(attribute_table(dataset, ENTRIES, classifier, ArrayCache(tmp_path / "cache", keep=False)), tmp_path)
    known = {name for row in table.values() for name, value in row.items() if value is not None}
    assert known
    assert not known & (set(FACE_ATTRIBUTES) - set(classifier.reliable))


def test_a_persons_attributes_are_those_of_most_crops() -> None:
    found = [{"male": -2.0, "hat": 2.0, "bald": 3.0}, {"male": -1.2, "hat": -2.0}, {"male": 5.0, "beard": 0.5}]
    crops = [face_pixels(0, number) for number in range(3)]

    class Whole(Listed):
        def __call__(self, images: Sequence[Any]) -> Any:
            return np.array([[each.get(name, 0.0) for name in FACE_ATTRIBUTES] for each in self.logits[: len(images)]])

    classifier: Any = Whole(*found, reliable=[name for name in FACE_ATTRIBUTES if name != "bald"])
    assert attributes_of_crops(crops, classifier) == {"male": False}  # one against one of the hat


def test_a_folder_of_photos_that_is_none_names_the_page(tmp_path: Path) -> None:
    dataset = PhotoDataset(tmp_path / "people.jsonl", tmp_path / "photos")
    with pytest.raises(DataError, match=r"photos is no folder; .*docs/data\.md"):
        dataset.open_with_central_face(ENTRIES[0])
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"does not exist; .*Put it back, or write the list again"):
        dataset.open_with_central_face(ENTRIES[0])
