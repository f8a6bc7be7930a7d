"""Sampling inside of a training step: it is the sampler's, and what it shows teaches the UNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tenth.data.faces.crops import PhotoDataset
from tenth.models.denoiser import Conditioning, predict, predict_x0
from tenth.models.pocket.loader import load_pocket
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, Step, initial_noise, sample_float
from tenth.training.pocket.adversarial import AdversarialLoss, AdversarialRecipe, AdversarialTrainer
from tenth.training.pocket.discriminator import LatentDiscriminator
from tenth.training.pocket.guided_sampling import STEPS, GuidedSampling
from tenth.training.pocket.identity_loss import IdentityLossConfig
from tenth.training.schedule import TrainingConfig
from toy_latents import adversarial_trainer, step_rng

RECIPE = AdversarialRecipe(
    data=PhotoDataset(Path(), Path()),
    autoencoder=Path(),
    schedule=TrainingConfig(1),
    loss=AdversarialLoss(guided_share=1.0, guided_weight=1.0),
    identity_loss=IdentityLossConfig(weight=1.0, p_apply=1.0, min_alphas_cumprod=0.0),
)


@pytest.fixture(scope="module")
def trainer() -> AdversarialTrainer:
    return adversarial_trainer(RECIPE)


@torch.no_grad()
def test_each_step_is_the_samplers() -> None:
    model, seen = load_pocket(), list[Step]()
    embeddings = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(0))
    prompts, seeds = ("a photo of a smiling person", "a picture of a person, outdoors"), (3, 4)
    batch = SamplingBatch(model, SamplingConfig(precision="fp32"), prompts, seeds, embeddings)
    sample_float(batch, seen.append)
    assert len(seen) == STEPS

    text, none = model.prompt_encoder(prompts, "", guided=True, device=model.device)
    assert none is not None
    noise = initial_noise(batch, [torch.Generator().manual_seed(seed) for seed in seeds])
    sampling = GuidedSampling(lambda *inputs: predict(model.pipeline.unet, *inputs), model.pipeline.scheduler.config)
    for steps_before, step in enumerate(seen):
        x0, timesteps = sampling(noise, Conditioning(text, embeddings), none, steps_before)
        assert timesteps.tolist() == [int(step.timestep)] * 2
        alphas = step.scheduler.alphas_cumprod[timesteps]
        expected = predict_x0(step.scaled_latents, step.prediction, alphas, "v_prediction")
        torch.testing.assert_close(x0, expected, atol=2e-4, rtol=1e-3)


def test_what_guidance_shows_teaches_the_unet(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor | None] = []
    plain = LatentDiscriminator.features

    def features(self: LatentDiscriminator, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> list[Tensor]:
        told.append(conditioning.image_embeddings)
        return plain(self, latents, timesteps, conditioning)

    monkeypatch.setattr(LatentDiscriminator, "features", features)
    losses, gradients = [], []
    without = replace(RECIPE, loss=replace(RECIPE.loss, guided_share=0.0))
    for recipe in (without, RECIPE, RECIPE):
        loss = replace(trainer, recipe=recipe).loss(torch.arange(4), step_rng(4))
        loss.backward()
        losses.append(loss.item())
        gradients.append(trainer.model.unet.conv_in.weight.grad.clone())
        trainer.model.unet.zero_grad()
    assert losses[1] == losses[2] != losses[0]
    assert torch.isfinite(gradients[1]).all()
    assert not torch.equal(gradients[0], gradients[1])

    # The discriminator is told who it is by photos alone: a prompt may be asked of anybody.
    assert [each is not None and not each.any() for each in told] == [False, False, *[False, False, True, True] * 2]


def test_some_show_other_people(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[Tensor] = []
    monkeypatch.setattr(
        AdversarialTrainer, "_appearance_loss", lambda _, x0, batch, __: targets.append(batch.embeddings[:, 0]) or x0.mean()
    )
    for share in (0.0, 1.0):
        loss = replace(RECIPE.loss, p_other_person=share)
        replace(trainer, recipe=replace(RECIPE, loss=loss)).loss(torch.arange(4), step_rng(4))
    assert torch.equal(targets[1], torch.arange(4.0))  # of the toy data set each embedding is its photo's number
    assert not torch.equal(targets[3], torch.arange(4.0))
