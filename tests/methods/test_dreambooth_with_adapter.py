"""DreamBooth while the adapter of a pair is on: what it is given, what is trained, and that each way keeps its own weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenth.core.errors import RecipeError
from tenth.core.types import Identity, MethodResult, Person
from tenth.data.photo_folder import read_person
from tenth.experiments import identities as learnt
from tenth.methods.combined import CombinedMethod
from tenth.methods.dreambooth import checkpoint_selection
from tenth.methods.dreambooth.checkpoint_selection import CheckpointImages
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.identity_file import save_identity
from tenth.methods.registry import method
from tenth.models.adapters.ip_adapter import ImageConditioning
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.training.frozen_diffusion import FrozenDiffusion
from toy_dreambooth import SETTINGS, all_weights, assert_as_before, draw, person

WITH = replace(SETTINGS, with_adapter=True)


class Coloured:
    """An adapter's method that reads no face: an embedding is the sum of the photos' digests, in all places."""

    name, tunes_model, keeps_photos = "coloured", False, False

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def is_available(self, model: Any) -> bool:
        return True

    def __call__(self, person: Person, model: Any) -> MethodResult:
        total = self.scale * sum(int(photo.digest, 16) for photo in person.photos)
        embeddings = torch.full((1, model.encoder.embedding_dim), float(total))
        digests = tuple(photo.digest for photo in person.photos)
        return MethodResult(Identity(self.name, model.name, model.encoder.name, model.adapter_name, embeddings, photos=digests))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """The image embeddings of each step."""
    steps: list[Tensor | None] = []
    plain = FrozenDiffusion.per_sample_loss

    def recorded(self: FrozenDiffusion, latents: Tensor, prompts: Any, images: Tensor | None, *more: Any) -> Tensor:
        steps.append(images)
        return plain(self, latents, prompts, images, *more)

    monkeypatch.setattr(FrozenDiffusion, "per_sample_loss", recorded)
    return steps


def test_each_photo_is_learnt_beside_the_identity_of_the_others_and_class_images_beside_nobody_s(
    toy_model: Any, given: list[Tensor | None]
) -> None:
    CombinedMethod(DreamBooth("dreambooth", WITH), Coloured())(person(1, 2, 4), toy_model)
    assert len(given) == 3
    for step in given:
        assert step is not None
        assert step.shape == (8, 1, 128)
        assert set(step[:4].flatten().tolist()) <= {6.0, 5.0, 3.0}  # 7 without 1, 2 or 4
        assert torch.equal(step[4:], toy_model.unconditional_like(step[4:]))
    seen = torch.cat([step[:4] for step in given if step is not None])
    assert set(seen.flatten().tolist()) == {6.0, 5.0, 3.0}
    given.clear()
    CombinedMethod(DreamBooth("dreambooth", replace(WITH, prior_loss_weight=0.0)), Coloured())(person(8), toy_model)
    assert {float(value) for step in given if step is not None for value in step.unique()} == {8.0}  # of one photo, its own
    given.clear()
    CombinedMethod(DreamBooth("dreambooth", SETTINGS), Coloured())(person(1, 2, 4), toy_model)
    assert given == [None] * 3


@pytest.mark.parametrize("lora", [SETTINGS.lora, None])
def test_the_adapter_and_the_model_stay_and_the_adapter_is_not_in_the_weights(
    toy_model: Any, lora: LoraSettings | None
) -> None:
    def adapter_weights() -> list[Tensor]:
        modules = toy_model.adapters[toy_model.adapter_name].conditioning.modules
        return [value.clone() for module in modules for value in module.state_dict().values()]

    model_before, adapter_before = all_weights(toy_model), adapter_weights()
    settings = replace(WITH, lora=lora, train_text_encoder=True)
    identity = CombinedMethod(DreamBooth("dreambooth", settings), Coloured())(person(1, 2), toy_model).identity
    assert_as_before(toy_model, model_before)
    assert all(map(torch.equal, adapter_before, adapter_weights()))
    assert ImageConditioning.of(toy_model.pipeline.unet).projection is None
    alone = DreamBooth("dreambooth", replace(settings, with_adapter=False))(person(1, 2), toy_model).identity
    assert identity.weights.keys() == alone.weights.keys()
    assert any(not torch.equal(value, alone.weights[name]) for name, value in identity.weights.items())
    assert np.abs(draw(toy_model, identity) - draw(toy_model, None)).max() > 1


def test_an_error_in_the_middle_leaves_the_model_without_adapter(toy_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_weights(toy_model)
    monkeypatch.setattr(FrozenDiffusion, "per_sample_loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        CombinedMethod(DreamBooth("dreambooth", WITH), Coloured())(person(1, 2), toy_model)
    assert_as_before(toy_model, before)
    assert ImageConditioning.of(toy_model.pipeline.unet).projection is None


def test_weights_are_cached_for_each_way_and_for_what_the_adapter_reads(toy_model: Any, given: list[Tensor | None]) -> None:
    def steps(fine_tuned: DreamBooth, adapter: Any) -> int:
        given.clear()
        CombinedMethod(fine_tuned, adapter)(person(1, 2), toy_model)
        return len(given)

    ways = [DreamBooth("dreambooth-lora", settings) for settings in (WITH, SETTINGS)]
    assert [steps(way, Coloured()) for way in ways] == [3, 3]
    assert [steps(way, Coloured()) for way in ways] == [0, 0]
    assert [steps(way, Coloured(scale=0.5)) for way in ways] == [3, 0]


def test_checkpoints_are_drawn_with_the_identity_of_the_training_photos(
    toy_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    directions = iter(np.eye(64))
    monkeypatch.setattr(checkpoint_selection, "embed_images", lambda _, images: np.stack([next(directions) for _ in images]))
    monkeypatch.setattr(checkpoint_selection, "sample", sampled(drawn, checkpoint_selection.sample))

    def selector(model: Any, training: Any, held_out: Any, drawing: CheckpointImages, directory: Path) -> Any:
        return checkpoint_selection.build_selector(model, training, held_out, drawing, directory)

    CombinedMethod(DreamBooth("dreambooth-lora", WITH, selector), Coloured())(person(1, 2, 4, 8, 16), toy_model)
    assert len(drawn) == 3
    for batch in drawn:  # the first of five photos is held out
        assert batch.embeddings.shape == (4, 1, 128)
        assert batch.embeddings.unique().tolist() == [30.0]


def sampled(batches: list[Any], sample: Callable[..., Sequence[Any]]) -> Callable[[Any], Sequence[Any]]:
    """`sample`, that keeps what it is asked for."""
    return lambda batch: batches.append(batch) or sample(batch)


def test_a_pair_trains_with_its_adapter_by_default_and_without_by_a_recipe(toy_model: Any, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes/dreambooth-apart.toml"
    pair, apart = method("dreambooth+ip-adapter-consensus"), method(f"{recipe}+ip-adapter-consensus")
    assert [each.trains_with_adapter(toy_model) for each in (pair, apart)] == [True, False]
    together, alone, separate = (
        each.settings_for(toy_model)
        for each in (method("dreambooth").beside(pair.adapter), method("dreambooth"), apart.fine_tuned.beside(apart.adapter))
    )
    assert separate == alone
    assert (together.with_adapter, alone.with_adapter) == (True, False)
    low_rank = method("dreambooth-lora").settings_for(toy_model)
    assert (together.strength, alone.strength, low_rank.strength) == (0.3, 0.8, 1.0)
    assert [each.schedule.total_images for each in (together, alone, low_rank)] == [160, 320, 320]
    (recipe := tmp_path / "alone.toml").write_text('method = "dreambooth"\nwith_adapter = true\n')
    with pytest.raises(RecipeError, match="with_adapter is true for toy and no adapter; a UNet and a method that reads"):
        method(str(recipe))(person(1), toy_model)


def test_an_experiment_trains_the_pair_anew(toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, path = DreamBooth("dreambooth-lora", SETTINGS), tmp_path / "alone.safetensors"
    save_identity(alone(person(1, 2), toy_model).identity, path)
    for settings, reused in ((WITH, False), (SETTINGS, True)):
        pair = CombinedMethod(DreamBooth("dreambooth-lora", settings), Coloured())
        monkeypatch.setattr(learnt, "method", {"a+b": pair, "b": pair.adapter}.__getitem__)
        assert learnt.create_identity("a+b", person(1, 2), toy_model, path)[1] == reused


@pytest.mark.parametrize("adapter", ["ip-adapter-consensus", "ip-adapter-concat"])
def test_faces_through_the_model_s_own_adapter(toy_model: Any, given: list[Tensor | None], adapter: str) -> None:
    photos = read_person(EXAMPLE_PHOTOS_DIR).photos[:3]
    CombinedMethod(DreamBooth("dreambooth", WITH), method(adapter))(Person("anna", photos), toy_model)
    others = [method(adapter)(Person("anna", photos[:i] + photos[i + 1 :]), toy_model).identity.embeddings for i in range(3)]
    assert len(given) == 3
    for step in given:
        assert step is not None
        assert all(any(torch.allclose(row, other) for other in others if other is not None) for row in step[:4])
        assert torch.equal(step[4:], toy_model.unconditional_like(step[4:]))
