"""Photos in context: which are taken, how they are cropped, and the laws of every method, on a toy of FLUX.2 klein."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.errors import DataError, IdentityError, ModelError
from tenth.core.files.tensors import tensors_digest
from tenth.core.types import Face, Identity, Person, Photo
from tenth.data.photo_folder import read_person
from tenth.experiments.generation.plan import plan_images
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.subject import subject_of
from tenth.methods.combined import CombinedMethod, combine_identities
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.photos_in_context import BELOW_FACE, CROP_SIDES, FACE_WIDTHS, PhotosInContext, crop_for_context
from tenth.methods.registry import ADAPTER_METHODS, METHODS, TUNING_FREE_METHODS, method
from tenth.models.families.registry import FAMILIES
from tenth.models.memory.planner import LoadOptions
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.people import PlacedPerson, Region
from toy_dreambooth import FLOW_SETTINGS
from toy_families import load_toy, toy_family

METHOD = PhotosInContext()
FEW = SamplingConfig(steps=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_toy(toy_family("flux2-klein", tmp_path_factory.mktemp("klein") / "toy"))


@pytest.fixture(scope="module")
def anna() -> Person:
    return read_person(EXAMPLE_PHOTOS_DIR)


def plain(*numbers: int, side: int = 64) -> Person:
    """A person of drawn photos in which nobody looked for a face."""
    pixels = [np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8) for number in numbers]
    digests = [f"{number:064x}" for number in numbers]
    return Person("bert", tuple(Photo(*each) for each in zip(pixels, digests, digests, strict=True)))


def draw(model: Any, *identities: Identity | None) -> list[np.ndarray]:
    return [sample.pixels for sample in generate(model, [Request(each, "a photo", 3) for each in identities], FEW)]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def weights(model: Any) -> str:
    parts = {name: getattr(model.pipeline, name) for name in ("transformer", "vae", "text_encoder")}
    return tensors_digest({f"{name}.{key}": each for name, part in parts.items() for key, each in part.state_dict().items()})


def test_as_many_photos_are_taken_as_the_model_reads(model: Any, anna: Person, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    before = weights(model)
    result = METHOD(anna, model)
    identity = result.identity
    assert weights(model) == before
    assert len(identity.context) == len(identity.photos) == 4
    assert identity.context.keys() == {f"latents.{index}" for index in range(4)}
    assert (identity.model, identity.embeddings, identity.weights) == (model.name, None, {})
    assert result.photo_weights is not None
    files = {photo.digest: photo.file for photo in anna.photos}
    shares = dict(zip(files, result.photo_weights.tolist(), strict=True))
    assert {digest for digest, share in shares.items() if share} == set(identity.photos)
    assert set(shares.values()) == {0, 0.25}
    assert result.warnings[0].startswith("4 photos of 9 in context: ")
    assert "others show the person better" in result.warnings[1]
    assert all(files[digest] in result.warnings[0] for digest in sorted(identity.photos, key=files.__getitem__)[:3])
    assert not any(name in result.warnings[1] for name in (files[digest] for digest in identity.photos))
    assert draw(model, identity)[0].shape == (64, 64, 3)


def test_what_is_encoded_is_the_crop_of_each_photo_in_turn(model: Any, anna: Person) -> None:
    few = replace(anna, photos=anna.photos[:2])
    identity = METHOD(few, model).identity
    by_digest = {photo.digest: photo for photo in few.photos}
    for index, digest in enumerate(identity.photos):
        pixels = torch.from_numpy(crop_for_context(by_digest[digest], 512)).permute(2, 0, 1)[None] / 127.5 - 1
        assert torch.allclose(identity.context[f"latents.{index}"], model.encode(pixels)[0], atol=1e-5)


def test_an_image_is_of_the_photos_and_the_same_to_the_byte(model: Any) -> None:
    one, other = (METHOD(plain(*numbers), model).identity for numbers in ((1, 2), (7, 8)))
    images = draw(model, one, other, None)
    assert min(furthest(images[0], images[1]), furthest(images[0], images[2])) > 0
    alone = draw(model, other)[0]
    assert np.array_equal(alone, draw(model, METHOD(plain(7, 8), model).identity)[0])
    assert furthest(images[1], alone) <= 1


@pytest.mark.parametrize("family", [each for each in FAMILIES.values() if each.max_context_photos], ids=lambda each: each.name)
def test_every_family_that_reads_photos_draws_them(family: Any, tmp_path: Path) -> None:
    model = load_toy(toy_family(family.name, tmp_path / "toy"))
    before = weights(model)
    one, other = (METHOD(plain(number, side=300), model).identity for number in (1, 7))
    assert METHOD(plain(1, side=300), model).identity.fingerprint == one.fingerprint != other.fingerprint
    (alone,), images = draw(model, one), draw(model, one, other)
    assert furthest(*images) > furthest(images[0], alone)
    assert furthest(images[0], alone) <= 1
    save_identity(one, tmp_path / "me.safetensors", with_photos=True)
    assert np.array_equal(alone, draw(model, load_identity(tmp_path / "me.safetensors"))[0])
    assert weights(model) == before

    # Prompts are read beside the photos, and that is not kept either.
    assert model.prompt_encoder.num_cached > 0
    model.prompt_encoder.forget_photos()
    assert model.prompt_encoder.num_cached == (0 if family.prompts_see_photos else 1)


def test_order_and_copies_change_nothing(model: Any) -> None:
    first, second = (METHOD(plain(*numbers), model).identity for numbers in ((1, 2, 3), (3, 1, 2)))
    assert first.fingerprint == second.fingerprint
    one, many = (METHOD(plain(*[4] * count), model).identity for count in (1, 6))
    assert one.fingerprint == many.fingerprint


def test_the_user_s_weights_say_what_is_taken(model: Any) -> None:
    person = replace(plain(1, 2, 3, 4, 5, 6), photo_weights=(0, 1, 1, 1, 1, 2))
    result = METHOD(person, model)
    assert result.identity.photos[0] == person.photos[5].digest
    assert person.photos[0].digest not in result.identity.photos
    assert any("as its weight is 0" in warning for warning in result.warnings)
    assert result.identity.photo_weights == ()


@pytest.mark.parametrize(("size", "width", "side"), [((900, 700), 100, 256), ((900, 700), 200, 512), ((300, 200), 150, 256)])
def test_a_crop_is_head_and_shoulders_within_the_photo(size: tuple[int, int], width: int, side: int) -> None:
    height, length = size
    pixels = np.zeros((height, length, 3), np.uint8)
    box = (20, 40, 20 + width, 40 + width)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    crop = crop_for_context(Photo(pixels, "a", face=Face(box, np.zeros((5, 2)))), 512)
    assert crop.shape == (side, side, 3)
    square = min(FACE_WIDTHS * width, *size)
    assert (crop > 128).mean() == pytest.approx((width / square) ** 2, rel=0.1)  # the whole face is in it
    rows, columns = (np.flatnonzero((crop[..., 0] > 128).any(axis)) * square / side for axis in (1, 0))
    top = max(0.0, 40 + width / 2 + BELOW_FACE * square - square / 2)
    assert (rows[0], columns[0]) == pytest.approx((40 - min(top, height - square), 20), abs=4)


def test_without_a_face_the_middle_is_taken() -> None:
    picture = Image.new("RGB", (900, 300), "black")
    picture.paste("white", (300, 0, 600, 300))
    crop = crop_for_context(Photo(np.asarray(picture), "a"), 512)
    assert crop.shape == (256, 256, 3)
    assert crop[:, 2:-2].min() == 255


def test_a_crop_is_as_large_as_the_family_reads() -> None:
    photo = Photo(np.zeros((1500, 1200, 3), np.uint8), "a")
    assert [crop_for_context(photo, largest).shape[0] for largest in (256, 512, 1024)] == [256, 512, 1024]
    assert {family.context_side for family in FAMILIES.values()} <= set(CROP_SIDES)


def test_a_unet_takes_none_and_the_error_names_who_does(toy_model: Any) -> None:
    assert not METHOD.is_available(toy_model)
    with pytest.raises(ModelError, match=r"takes no photos in context.*flux2-klein"):
        METHOD(plain(1), toy_model)


def test_a_person_without_photos_is_an_error(model: Any) -> None:
    with pytest.raises(DataError, match="nobody has no usable photo"):
        METHOD(Person("nobody", ()), model)


def test_photos_are_in_the_whole_image_and_in_no_region(model: Any) -> None:
    with pytest.raises(IdentityError, match="photos in context, which act everywhere"):
        PlacedPerson(METHOD(plain(1), model).identity, Region.parse("left"))


def test_it_goes_with_weights_in_one_identity(model: Any) -> None:
    photos = METHOD(plain(1, 2), model).identity
    lora = Identity("dreambooth-lora", model.name, "", "", None, {"a": torch.ones(1)}, "sks person", ("0" * 64,))
    both = combine_identities(lora, photos)
    assert (both.method, both.trigger_phrase) == ("dreambooth-lora+photos-in-context", "sks person")
    assert (both.context, both.weights) == (photos.context, lora.weights)
    assert both.photos == ("0" * 64, *photos.photos)
    with pytest.raises(IdentityError, match="one with embeddings or photos"):
        combine_identities(photos, photos)
    combined = method("dreambooth-lora+photos-in-context")
    assert combined.tunes_model
    assert combined.keeps_photos
    assert combined.is_available(model)


@pytest.mark.slow
def test_learnt_weights_and_photos_are_in_force_together(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    before, learns = weights(model), DreamBooth("dreambooth-lora", FLOW_SETTINGS)
    bert = plain(1, 2)
    both = CombinedMethod(learns, METHOD)(bert, model).identity
    parts = learns(bert, model).identity, METHOD(bert, model).identity  # the weights are cached
    assert both.weights.keys() == parts[0].weights.keys()
    assert tensors_digest(both.context) == tensors_digest(parts[1].context)
    learnt, read, drawn = draw(model, *parts, both)
    assert min(furthest(drawn, learnt), furthest(drawn, read)) > 0
    assert weights(model) == before


def test_it_is_a_row_of_the_table_that_no_experiment_takes_unasked() -> None:
    assert METHODS["photos-in-context"].value == METHOD
    assert "photos-in-context" in TUNING_FREE_METHODS
    assert "photos-in-context" not in ADAPTER_METHODS
    assert [name for name, entry in METHODS.items() if entry.value.keeps_photos] == ["photos-in-context"]


@pytest.mark.parametrize(
    ("name", "number"), [("photos-in-context", 4), ("dreambooth-lora+photos-in-context", 4), ("ip-adapter", 0)]
)
def test_a_model_is_loaded_with_room_for_the_photos(name: str, number: int) -> None:
    plan, asked = plan_images(ImageRequest(prompts=("a photo",), method=name)), []

    def load(options: LoadOptions) -> Any:
        asked.append(options.context_photos)
        raise ModelError("no model", "none is needed", "Stop here")

    with pytest.raises(ModelError, match="Stop here"):
        subject_of(plain(1), plan, name, load)
    assert asked == [number]
