"""Adversarial fine-tuning of the pocket model's UNet: who learns from what, and where a step of sampling leads to."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tenth.core.cache import ArrayCache
from tenth.core.config import to_table
from tenth.core.errors import RecipeError
from tenth.data.faces.crops import PhotoDataset
from tenth.models.denoiser import Conditioning
from tenth.models.pocket.loader import load_pocket
from tenth.models.pocket.paths import MODEL_DIR
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.pocket.augmentation import Augmentation
from tenth.training.pocket.diffusion import export_averages, prepare
from tenth.training.pocket.discriminator import LatentDiscriminator, hinge_loss
from tenth.training.pocket.finetuning.adversarial import train_adversarial
from tenth.training.pocket.finetuning.recipe import AdversarialLoss, AdversarialRecipe
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer
from tenth.training.pocket.identity_loss import IdentityLossConfig
from tenth.training.schedule import TrainingConfig
from toy_latents import adversarial_trainer, photo_dataset, step_rng

RECIPE = AdversarialRecipe(
    data=PhotoDataset(Path(), Path()),
    autoencoder=Path(),
    schedule=TrainingConfig(1),
    loss=AdversarialLoss(p_below=1.0, p_on_policy=1.0),
    identity_loss=IdentityLossConfig(weight=1.0, p_apply=1.0, min_alphas_cumprod=0.0),
)


@pytest.fixture(scope="module")
def trainer() -> AdversarialTrainer:
    return adversarial_trainer(RECIPE)


def test_each_network_is_taught_by_its_own_terms(trainer: AdversarialTrainer) -> None:
    unet, heads, latents = trainer.model.unet, trainer.discriminator, torch.randn(2, 8, 16, 16, requires_grad=True)
    conditioning = Conditioning(PromptEmbeddings(torch.randn(2, 32, 192)), torch.randn(2, 1, 128))
    features = heads.features(latents, torch.tensor([5, 200]), conditioning)
    assert [tuple(each.shape[1:]) for each in features] == [(112, 16, 16), (192, 8, 8), (192, 8, 8)]

    sum(each.mean() for each in heads.scores(features, trainable=False)).backward()  # type: ignore[union-attr]
    assert latents.grad is not None
    assert float(latents.grad.abs().max()) > 0
    assert all(weights.grad is None for weights in [*heads.parameters(), *heads.features.unet.parameters()])

    # In a step both have gradients, the frozen copy has none, and without the adversarial weight the UNet's are others.
    gradients = []
    for weight in (0.02, 0.0):
        other = replace(trainer, recipe=replace(RECIPE, loss=replace(RECIPE.loss, adversarial_weight=weight)))
        other.loss(torch.arange(4), step_rng(4)).backward()
        assert all(weights.grad is not None for weights in heads.parameters())
        assert all(weights.grad is None for weights in heads.features.unet.parameters())
        gradients.append(([each.grad.clone() for each in heads.parameters()], unet.conv_in.weight.grad.clone()))  # type: ignore[union-attr]
        unet.zero_grad()
        heads.zero_grad()
    assert all(torch.equal(*pair) for pair in zip(gradients[0][0], gradients[1][0], strict=True))
    assert not torch.equal(gradients[0][1], gradients[1][1])
    assert not {name for name, _ in heads.named_parameters() if not name.startswith("heads.")}


@pytest.mark.slow
def test_heads_learn_to_tell_blurred_latents_from_others(trainer: AdversarialTrainer) -> None:
    heads = LatentDiscriminator(copy.deepcopy(trainer.discriminator.features.unet))
    optimizer, generator = torch.optim.AdamW(heads.parameters(), 1e-4), torch.Generator().manual_seed(0)
    conditioning = Conditioning(PromptEmbeddings(torch.zeros(8, 32, 192)), torch.zeros(8, 1, 128))
    losses = []
    for _ in range(20):
        photos = torch.randn(8, 8, 16, 16, generator=generator)
        blurred = torch.nn.functional.avg_pool2d(photos, 3, 1, 1)
        sides = [heads.features(each, torch.full((8,), 20), conditioning) for each in (photos, blurred)]
        scores = [heads.scores([each.detach() for each in side], trainable=True) for side in sides]
        loss = torch.stack([hinge_loss(*pair) for pair in zip(*scores, strict=True)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 < 1 < losses[0]


def test_a_step_of_sampling_leads_on_along_the_noise_or_to_new_noise(
    trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = torch.arange(6)
    batch = trainer._batch(indices, step_rng(6))
    noise, selected = step_rng(6, 1).normal(8, 16, 16), torch.tensor([True] * 5 + [False])

    def perfect(_: AdversarialTrainer, noisy: Tensor, *__: object) -> tuple[Tensor, Tensor]:
        return batch.latents[: len(noisy)], noisy

    monkeypatch.setattr(AdversarialTrainer, "_predict", perfect)
    reached = trainer._own_latents(batch, selected, noise, step_rng(6, 2))
    along = trainer._noised(batch.latents, noise, batch.timesteps)
    same = (reached - along).abs().amax((1, 2, 3)) < 1e-3  # a perfect prediction implies the noise that is there
    assert same.tolist()[5] is False
    assert not reached[5].any()
    assert 0 < int(same.sum()) < 5
    assert torch.equal(reached, trainer._own_latents(batch, selected, noise, step_rng(6, 2)))  # resuming changes nothing


def test_what_the_stage_does_not_do_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"identity_loss.feature_weight is 1.0.*0 in this stage"):
        replace(RECIPE, identity_loss=IdentityLossConfig(feature_weight=1.0))
    with pytest.raises(RecipeError, match=r"average_share is 0.2.*0 without average_with"):
        replace(RECIPE, average_share=0.2)
    with pytest.raises(RecipeError, match=r"augmentation.p_apply is 0.3.*0 in this stage"):
        replace(RECIPE, augmentation=Augmentation(p_apply=0.3))
    assert to_table(RECIPE)["stage"] == "adversarial"


@pytest.mark.slow
def test_a_training_writes_a_model_with_another_unet_alone(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    schedule = TrainingConfig(
        8, 4, warmup_images=0, learning_rate=1e-4, extra_ema_halflives_images=(10,), ema_halflife_images=5
    )
    recipe = replace(
        RECIPE,
        data=photo_dataset(tmp_path, face_photos),
        autoencoder=MODEL_DIR / "vae/diffusion_pytorch_model.safetensors",
        init_from=MODEL_DIR,
        schedule=schedule,
    )
    train_adversarial(recipe, tmp_path / "run")
    parts = {"unet/diffusion_pytorch_model": True, "text_encoder/model": False, "vae/diffusion_pytorch_model": False}
    for folder in ("final", "average-10"):
        load_pocket(tmp_path / "run" / folder)
        for part, changed in parts.items():
            before, after = (load_file(root / f"{part}.safetensors") for root in (MODEL_DIR, tmp_path / "run" / folder))
            assert any(not torch.equal(before[name], after[name]) for name in before) == changed

    # Averaged with another model, they lie as much nearer to it.
    shared = replace(recipe, average_with=MODEL_DIR, average_share=0.25)
    shutil.copytree(tmp_path / "run", tmp_path / "shared", ignore=shutil.ignore_patterns("final", "average-*"))
    export_averages(shared, prepare(shared, ArrayCache(tmp_path / "store")), tmp_path / "shared")
    roots = (MODEL_DIR, tmp_path / "run/final", tmp_path / "shared/final")
    initial, trained, between = (load_file(root / "unet/diffusion_pytorch_model.safetensors") for root in roots)
    for name, value in between.items():
        expected = 0.25 * initial[name].float() + 0.75 * trained[name].float()
        torch.testing.assert_close(value.float(), expected, atol=1e-5, rtol=2e-3)  # all three are in half precision
