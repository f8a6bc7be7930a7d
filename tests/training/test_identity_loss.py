"""The pocket model's second term: faces that a prediction shows, and photos of rare signs seen more often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tenth.core.errors import ModelError, RecipeError
from tenth.data.faces.crops import PhotoDataset
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.encoders.dlib_resnet import crops_to_chips
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.loader import load_pocket
from tenth.training.pocket.dataset import PocketConditioningDropout, repeat_factor_sampling
from tenth.training.pocket.diffusion import DiffusionRecipe, train_diffusion, training_loss
from tenth.training.pocket.identity_loss import IdentityLoss, IdentityLossConfig, feature_distance, jittered
from tenth.training.pocket.modules import PocketModules
from tenth.training.schedule import TrainingConfig
from toy_latents import photo_dataset, pocket_dataset, step_rng


@pytest.fixture(scope="module")
def likeness() -> IdentityLoss:
    model = load_pocket()
    assert isinstance(model.pipeline.vae, PocketAutoencoder)
    assert isinstance(model.encoder, FaceEncoder)
    return IdentityLoss(model.pipeline.vae, model.encoder)


def test_a_face_is_like_itself_and_learns_to_be_like_another(likeness: IdentityLoss) -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 8, 16, 16)
    with torch.no_grad():
        own = likeness.encoder.standardize(likeness.face_net(crops_to_chips(likeness.decoder(latents))))
    for features in (0.0, 1.0):
        assert torch.allclose(likeness(latents, own, latents, features), torch.zeros(2), atol=1e-4)
        moving = latents.clone().requires_grad_()
        before = likeness(moving, own.flip(0), latents.flip(0), features)
        before.sum().backward()
        assert moving.grad is not None
        after = likeness(latents - 0.02 * moving.grad / moving.grad.abs().max(), own.flip(0), latents.flip(0), features)
        assert bool((after < before).all())
    assert all(weights.grad is None for part in (likeness.decoder, likeness.face_net) for weights in part.parameters())


def test_features_are_compared_by_direction_over_places_and_stages() -> None:
    one = [torch.rand(2, 8, 5, 5), torch.rand(2, 16, 3, 3)]
    assert torch.allclose(feature_distance(one, [3 * each for each in one]), torch.zeros(2), atol=1e-6)
    assert feature_distance(one, [one[0], -one[1]]).tolist() == pytest.approx([2, 2])  # 4 in one stage of two
    apart = feature_distance([torch.eye(4).view(1, 4, 2, 2)], [torch.eye(4).flip(0).view(1, 4, 2, 2)])
    assert apart.tolist() == [2]  # squared distance of directions at right angles


@pytest.mark.slow
def test_crops_are_moved_and_enlarged_by_shares_of_their_side() -> None:
    crops = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    as_they_are, right, enlarged = jittered(crops, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.125, -0.125], [0.5, 0.0, 0.0]]))
    torch.testing.assert_close(as_they_are, crops[0])
    torch.testing.assert_close(right[:, 1:, :-1], crops[1, :, :-1, 1:])  # an eighth of eight pixels, and an edge that repeats
    torch.testing.assert_close(right[:, 0, :-1], crops[1, :, 0, 1:])
    quarter = crops[2, :, 2:6, 2:6]  # the middle half of each side: sampled at twice the density
    torch.testing.assert_close(enlarged.mean(), quarter.mean(), atol=0.05, rtol=0)
    assert float(enlarged.min()) >= float(crops[2, :, 1:7, 1:7].min())


def test_only_faces_that_see_their_person_and_have_signal_are_looked_at(likeness: IdentityLoss, toy_configs: Path) -> None:
    torch.manual_seed(0)
    parts, made = PocketModules.create(toy_configs), pocket_dataset()
    install_ip_adapter(parts.unet, init_ip_adapter(parts.unet, 128))
    indices = torch.arange(4)
    plain = DiffusionRecipe(
        PhotoDataset(Path(), Path()),
        Path(),
        TrainingConfig(1),
        PocketConditioningDropout(p_no_adapter=0.0, p_unconditional=0.0, p_no_image=0.0),
    )

    def difference(recipe: DiffusionRecipe) -> float:
        """What the term adds to one step's loss."""
        with torch.no_grad():
            values = [training_loss(parts, made, recipe, indices, step_rng(4, 3), each) for each in (likeness, None)]
        return float(values[0] - values[1])

    every = IdentityLossConfig(weight=1.0, p_apply=1.0, min_alphas_cumprod=0.0)
    term = difference(replace(plain, identity_loss=every))
    assert term > 0.01
    assert difference(replace(plain, identity_loss=replace(every, weight=2.0))) == pytest.approx(2 * term, rel=1e-3)
    assert difference(replace(plain, identity_loss=replace(every, feature_weight=1.0))) > 1.2 * term
    assert difference(replace(plain, identity_loss=replace(every, p_apply=0.0))) == 0
    assert difference(replace(plain, identity_loss=replace(every, min_alphas_cumprod=1.0))) == 0
    assert (
        difference(replace(plain, conditioning_dropout=PocketConditioningDropout(p_no_adapter=1.0), identity_loss=every)) == 0
    )
    assert (
        difference(
            replace(
                plain,
                conditioning_dropout=PocketConditioningDropout(
                    p_unconditional=0.0, p_no_image=1.0, p_no_text=0.0, p_no_adapter=0.0
                ),
                identity_loss=every,
            )
        )
        == 0
    )


def test_photos_of_rare_signs_are_seen_more_often() -> None:
    captions = ["a man"] * 96 + ["a man with a beard"] * 3 + ["a man wearing a hat"]
    assert repeat_factor_sampling(captions, 0.0).tolist() == list(range(100))
    seen = repeat_factor_sampling(captions, 0.12).tolist()
    assert seen == sorted(seen)
    assert set(seen) == set(range(100))
    assert sum(96 <= each < 99 for each in seen) == 6  # sqrt(0.12 / 0.03) each
    assert seen.count(99) in (3, 4)  # sqrt(0.12 / 0.01) = 3.46
    assert sum(each < 96 for each in seen) == 96  # "man" is not rare


@pytest.mark.slow
def test_a_run_goes_on_from_a_whole_model(
    tmp_path: Path, toy_folder: Path, toy_configs: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    vae = toy_folder / "vae/diffusion_pytorch_model.safetensors"
    still = TrainingConfig(4, batch_size=2, learning_rate=1e-9, warmup_images=0, weight_decay=0.0)
    recipe = DiffusionRecipe(
        photo_dataset(tmp_path, face_photos),
        vae,
        still,
        init_from=toy_folder,
        repeat_threshold=0.1,
        identity_loss=IdentityLossConfig(0.2, 1.0),
    )
    train_diffusion(recipe, tmp_path / "run")
    before, after = load_pocket(toy_folder), load_pocket(tmp_path / "run/final")
    for part in ("unet", "text_encoder", "vae"):
        olds, news = (getattr(model.pipeline, part).state_dict() for model in (before, after))
        assert olds.keys() == news.keys()
        assert all(torch.allclose(olds[name], news[name], atol=1e-5) for name in olds)
    for kind, weights in before.adapter_parts.items():
        assert all(torch.allclose(value, after.adapter_parts[kind][name], atol=1e-5) for name, value in weights.items())
    assert torch.equal(before.encoder.null_embedding(), after.encoder.null_embedding())
    assert before.encoder.mean.equal(after.encoder.mean)  # its weights know these embeddings, not the new people's


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_latents(
    tmp_path: Path, toy_folder: Path, toy_configs: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    people, other = photo_dataset(tmp_path, face_photos), tmp_path / "other.safetensors"
    own = load_file(toy_folder / "vae/diffusion_pytorch_model.safetensors")
    save_file({name: value + 1 for name, value in own.items()}, other)
    with pytest.raises(RecipeError, match="knows the latents of another autoencoder"):
        train_diffusion(DiffusionRecipe(people, other, TrainingConfig(1), init_from=toy_folder), tmp_path / "run")
    with pytest.raises(ModelError, match="has no text_encoder"):
        train_diffusion(DiffusionRecipe(people, other, TrainingConfig(1), init_from=tmp_path), tmp_path / "run")
