from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.errors import DataError, ModelError
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import FaceCrops, PhotoDataset
from tenth.evaluation.extractors.face_attributes import (
    MIN_BALANCED_ACCURACY,
    FaceAttributeClassifier,
    FaceAttributeNet,
    balanced_accuracy,
    load_face_attributes,
    save_face_attributes,
)
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.training.pocket import face_attributes as training
from tenth.training.pocket.face_attributes import FaceAttributesRecipe, augment, train_face_attributes
from toy_people import ATTRIBUTE_SCHEDULE, attribute_dataset, write_attribute_table


def test_the_package_tells_signs_of_people_who_do_not_exist() -> None:
    reader = load_face_attributes()
    assert set(reader.reliable) >= {"male", "smiling", "eyeglasses", "gray_hair"}
    assert all(reader.accuracy[sign] >= MIN_BALANCED_ACCURACY for sign in reader.reliable)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))]
    rows = reader(pictures)
    assert rows.shape == (len(pictures), len(FACE_ATTRIBUTES))
    male = rows[:, FACE_ATTRIBUTES.index("male")]
    assert len({value > 0 for value in male}) == 1  # nine photos of one person


def test_what_is_written_is_read_again_and_damage_is_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FaceAttributeNet()
    save_face_attributes(net.state_dict(), {"smiling": 0.9, "hat": 0.6}, tmp_path / "face_attributes.safetensors")
    reader = FaceAttributeClassifier(tmp_path / "face_attributes.safetensors")
    assert reader.reliable == ("smiling",)
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    with torch.no_grad():
        plain = net(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1)
    np.testing.assert_allclose(reader([picture]), plain.numpy(), atol=0.02)  # in half precision
    assert reader([]).shape == (0, len(FACE_ATTRIBUTES))
    (tmp_path / "face_attributes.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="is damaged or not safetensors"):
        FaceAttributeClassifier(tmp_path / "face_attributes.safetensors")


def test_balanced_accuracy_counts_yes_and_no_alike_and_leaves_unknown_out() -> None:
    logits = torch.full((4, len(FACE_ATTRIBUTES)), -1.0)
    labels = torch.full((4, len(FACE_ATTRIBUTES)), float("nan"))
    labels[:, 1] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # one yes, missed; all no, told
    labels[:, 2] = 0.0  # nothing to say: no yes
    assert balanced_accuracy(logits, labels) == {FACE_ATTRIBUTES[1]: 0.5}


def test_images_vary_but_a_step_is_a_function_of_its_draws() -> None:
    crops = torch.rand(4, 3, 128, 128) * 2 - 1
    one, same, other = (augment(crops, StepRNG(0, step, 4)) for step in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == crops.shape
    assert float(one.abs().max()) <= 1


@pytest.mark.slow
def test_light_and_dark_are_trained_from_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, crops = attribute_dataset(24)
    monkeypatch.setattr(training, "load_face_crops", lambda *_: FaceCrops(rows, crops))
    monkeypatch.setattr(training, "default_cache_dir", lambda: tmp_path / "store")
    write_attribute_table(tmp_path / "attributes.csv", rows)
    photos = PhotoDataset(tmp_path / "people.jsonl", tmp_path)
    recipe = FaceAttributesRecipe(photos, tmp_path / "attributes.csv", ATTRIBUTE_SCHEDULE)
    train_face_attributes(recipe, tmp_path / "out")
    reader = FaceAttributeClassifier(tmp_path / "out/final/face_attributes.safetensors")
    assert reader.accuracy["outdoor"] > 0.9
    assert "smiling" not in reader.accuracy  # nobody knows
    write_attribute_table(tmp_path / "attributes.csv", [])
    with pytest.raises(DataError, match="knows none of 24 photos"):
        train_face_attributes(recipe, tmp_path / "other")
