"""The pocket model's decoder goes on learning: against whom, by what, and that everything else in the file stays."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError, ModelError
from tenth.data.faces.crops import FaceCrops
from tenth.data.manifest import ManifestEntry
from tenth.models.encoders.dlib_resnet import load_dlib_net
from tenth.models.pocket.autoencoder import SHUFFLE_FACTOR, PocketAutoencoder
from tenth.training.frozen_network import weights_digest
from tenth.training.pocket.autoencoder import load_autoencoder
from tenth.training.pocket.dataset import compute_latents
from tenth.training.pocket.decoder import (
    PACKAGED_AUTOENCODER,
    DecoderLoss,
    DecoderModules,
    DecoderRecipe,
    crop_shifted,
    detail_ratio,
    grid_artifact_ratio,
    laplacian_energy,
    laplacian_energy_loss,
    laplacian_variance,
    train_decoder,
)
from tenth.training.pocket.discriminator import PatchDiscriminator, feature_matching_loss, hinge_loss, largest_singular_value
from tenth.training.schedule import TrainingConfig
from toy_latents import photo_dataset

SHORT = TrainingConfig(8, batch_size=2, learning_rate=1e-3, warmup_images=0, weight_decay=0.0, checkpoint_every_images=4)


def sharpening() -> DecoderModules:
    torch.manual_seed(0)
    model = PocketAutoencoder(widths=(16, 16), decoder_blocks=(1, 1))
    return DecoderModules(model.decoder, PatchDiscriminator(), load_dlib_net())


def test_every_layer_of_the_discriminator_stretches_by_one_at_most() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    for weight in discriminator.normalized_weights()[::2]:
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2).detach()) == pytest.approx(1, abs=1e-4)
    matrix = torch.randn(4, 9, requires_grad=True)
    assert torch.allclose(largest_singular_value(matrix), torch.linalg.matrix_norm(matrix, 2))
    assert not dict(discriminator.named_buffers())  # a run that goes on has all of it in its checkpoint
    scores = discriminator(torch.rand(2, 3, 128, 128), discriminator.normalized_weights())[-1]
    assert scores.shape == (2, 1, 32, 32)


def test_the_hinge_is_nothing_where_photos_and_drawn_patches_are_far_apart() -> None:
    assert hinge_loss(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])) == 0
    assert hinge_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 2
    found = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    assert feature_matching_loss(found, found) == 0
    assert feature_matching_loss([2 * each for each in found], found) == pytest.approx(1)


def test_decoder_and_discriminator_each_learn_by_their_own_terms() -> None:
    parts = sharpening()
    latents, photos = torch.randn(2, 8, 16, 16), torch.rand(2, 3, 128, 128) * 2 - 1

    def gradients(loss: DecoderLoss) -> list[Tensor]:
        """Of decoder and discriminator."""
        for part in (parts.decoder, parts.discriminator):
            part.zero_grad(set_to_none=True)
        loss(parts, latents, photos).backward()
        sides = [part.parameters() for part in (parts.decoder, parts.discriminator)]
        return [torch.cat([each.grad.flatten() for each in side if each.grad is not None]) for side in sides]

    plain = DecoderLoss(adversarial_weight=0.0, feature_matching_weight=0.0, perceptual_weight=0.0, laplacian_weight=0.0)
    alone = gradients(plain)
    for term in ("adversarial_weight", "feature_matching_weight", "perceptual_weight", "laplacian_weight"):
        decoder, discriminator = gradients(replace(plain, **{term: 1.0}))
        assert not torch.allclose(decoder, alone[0]), term
        assert torch.equal(discriminator, alone[1]), term  # only the hinge moves it
    assert all(weight.grad is None for weight in parts.face_net.parameters())


def test_the_first_stages_of_the_recognizer_are_those_of_all_of_it() -> None:
    net, chips = load_dlib_net(), torch.rand(1, 3, 150, 150) * 255
    _, found = net.forward_features(chips)
    first = net.stage_features(chips, 2)
    assert [each.shape for each in first] == [(1, 32, 35, 35), (1, 64, 17, 17)]
    assert all(torch.equal(one, other) for one, other in zip(first, found, strict=False))
    assert net.stage_features(chips, 0) == []


def test_detail_is_the_share_of_the_photos_own() -> None:
    class Blurred(PocketAutoencoder):
        def __init__(self, kept: float) -> None:
            super().__init__(widths=(16, 16))
            self.encoder, self.decoder = torch.nn.Identity(), torch.nn.Hardtanh(-kept, kept)

    crops = torch.randint(0, 2, (3, 3, 32, 32), dtype=torch.uint8) * 255  # black and white
    assert detail_ratio(Blurred(1.0), crops) == pytest.approx(1)
    assert detail_ratio(Blurred(0.5), crops) == pytest.approx(0.25, rel=0.02)  # half the contrast, a quarter of the variance
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    assert laplacian_variance(ramp).tolist() == pytest.approx([0], abs=1e-6)


def test_a_pattern_of_the_decoder_s_squares_is_seen() -> None:
    class Dotted(PocketAutoencoder):
        """The crops themselves, with one place in each square made brighter."""

        def __init__(self, brighter: float) -> None:
            super().__init__(widths=(16, 16))
            dots = torch.zeros(SHUFFLE_FACTOR, SHUFFLE_FACTOR)
            dots[1, 2] = brighter
            self.encoder, self.dots = torch.nn.Identity(), dots
            self.decoder = torch.nn.Identity()
            self.decoder.forward = lambda x: (
                x * 0.5 + self.dots.repeat(x.shape[-2] // SHUFFLE_FACTOR, x.shape[-1] // SHUFFLE_FACTOR)
            )

    crops = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    assert grid_artifact_ratio(Dotted(0.0), crops) < 1.3  # chance alone
    assert grid_artifact_ratio(Dotted(0.5), crops) > 1.6


def test_energies_are_apart_where_detail_lacks_or_stands_in_a_pattern() -> None:
    photos = torch.rand(4, 3, 64, 64) * 2 - 1
    assert laplacian_energy_loss(photos, photos) == 0
    assert float(laplacian_energy_loss(photos / 2, photos)) == pytest.approx(math.log(4), rel=1e-4)  # half the contrast
    dots = torch.zeros(SHUFFLE_FACTOR, SHUFFLE_FACTOR)
    dots[0, 0] = 0.5
    assert float(laplacian_energy_loss(photos + dots.repeat(16, 16), photos)) > 0.05
    assert laplacian_energy(photos).shape == (SHUFFLE_FACTOR, SHUFFLE_FACTOR)


def test_the_discriminator_looks_from_other_places() -> None:
    pixels = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert torch.equal(crop_shifted(pixels, (0, 0)), pixels[..., :4, :4])
    assert torch.equal(crop_shifted(pixels, (3, 1)), pixels[..., 3:7, 1:5])
    parts = sharpening()
    latents, photos = torch.randn(2, 8, 16, 16), torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        here, there = (float(DecoderLoss()(parts, latents, photos, shift)) for shift in ((0, 0), (1, 2)))
    assert here != there


@pytest.mark.slow
def test_a_run_changes_the_decoder_and_nothing_else_of_the_file(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    recipe = DecoderRecipe(photo_dataset(tmp_path, face_photos, validation=2), SHORT)
    train_decoder(recipe, tmp_path / "run")
    before, after = load_file(PACKAGED_AUTOENCODER), load_file(tmp_path / "run/final/autoencoder.safetensors")
    assert {name: tensor.dtype for name, tensor in before.items()} == {name: tensor.dtype for name, tensor in after.items()}
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == {name for name in before if name.startswith("decoder.")}
    assert PACKAGED_AUTOENCODER.stat().st_size == (tmp_path / "run/final/autoencoder.safetensors").stat().st_size


@pytest.mark.slow
def test_a_run_that_was_stopped_gives_the_same_decoder(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    recipe = DecoderRecipe(photo_dataset(tmp_path, face_photos, validation=2), SHORT)
    train_decoder(recipe, tmp_path / "whole")
    calls: list[Tensor] = []
    whole = DecoderLoss.__call__

    def stopped(self: DecoderLoss, parts: DecoderModules, *step: Any) -> Tensor:
        calls.append(step[0])
        if len(calls) > 3:  # after the checkpoint at the second step
            raise DataError("stopped", "needed", "do")
        return whole(self, parts, *step)

    monkeypatch.setattr(DecoderLoss, "__call__", stopped)
    with pytest.raises(DataError, match="stopped"):
        train_decoder(recipe, tmp_path / "parts")
    monkeypatch.setattr(DecoderLoss, "__call__", whole)
    train_decoder(recipe, tmp_path / "parts")
    one, other = (load_file(tmp_path / name / "final/autoencoder.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_latents_are_kept_by_their_encoder_whatever_the_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    store, model = ArrayCache(tmp_path / "store"), PocketAutoencoder(widths=(16, 16))
    row = ManifestEntry("a/a.jpg", "a", "train", 1, "a photo", ("a photo",), "0" * 64)
    faces = FaceCrops((row,), torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8))
    found = compute_latents(faces, model, store)
    with torch.no_grad():
        model.decoder[0].weight.add_(1.0)
    other = FaceCrops((row,), torch.zeros_like(faces.crops))  # is not looked at again
    assert torch.equal(compute_latents(other, model, store), found)
    before = weights_digest(model.encoder)
    with torch.no_grad():
        model.encoder[1].weight.add_(1.0)
    assert weights_digest(model.encoder) != before
    assert not torch.equal(compute_latents(faces, model, store), found)


@pytest.mark.slow
def test_the_autoencoder_s_file_may_be_of_single_precision(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    save_file({name: tensor.float() for name, tensor in load_file(PACKAGED_AUTOENCODER).items()}, tmp_path / "wide.safetensors")
    recipe = DecoderRecipe(
        photo_dataset(tmp_path, face_photos, validation=2), replace(SHORT, total_images=2), tmp_path / "wide.safetensors"
    )
    train_decoder(recipe, tmp_path / "run")
    after = load_file(tmp_path / "run/final/autoencoder.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert torch.isfinite(torch.cat([tensor.flatten() for tensor in after.values()])).all()


def test_a_file_of_something_else_is_said(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="holds other tensors than the pocket model's autoencoder has"):
        load_autoencoder(tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"none\.safetensors does not exist"):
        load_autoencoder(tmp_path / "none.safetensors")
