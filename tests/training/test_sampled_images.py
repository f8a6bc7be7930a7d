"""Images sampled inside of a training step: they are the sampler's, and what they show teaches the UNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tenth.core.errors import RecipeError
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset
from tenth.models.denoiser import Conditioning, predict
from tenth.models.pocket.loader import load_pocket
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, decode_images, initial_noise, sample_float
from tenth.training.pocket.discriminator import LatentDiscriminator
from tenth.training.pocket.finetuning.recipe import AdversarialRecipe, SampledImages
from tenth.training.pocket.finetuning.sampling import DEFAULTS, sample_latents
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer, Batch
from tenth.training.pocket.identity_loss import IdentityLossConfig
from tenth.training.schedule import TrainingConfig
from toy_latents import adversarial_trainer, pocket_dataset, step_rng

RECIPE = AdversarialRecipe(
    data=PhotoDataset(Path(), Path()),
    autoencoder=Path(),
    schedule=TrainingConfig(1),
    sampled=SampledImages(share=1.0, attribute_heads=Path(), attribute_weight=0.5),
    identity_loss=IdentityLossConfig(weight=1.0, p_apply=1.0, min_alphas_cumprod=0.0),
)


def with_sampled(**changes: float) -> AdversarialRecipe:
    return replace(RECIPE, sampled=replace(RECIPE.sampled, **changes))


@pytest.fixture(scope="module")
def trainer() -> AdversarialTrainer:
    return adversarial_trainer(RECIPE)


def test_sampling_is_the_samplers_and_each_step_is_taught() -> None:
    model = load_pocket()
    embeddings = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(0))
    prompts, seeds = ("a photo of a smiling person", "a picture of a person, outdoors"), (3, 4)
    batch = SamplingBatch(model, SamplingConfig(precision="fp32", guidance_scale=1.0), prompts, seeds, embeddings)
    seen = list[Tensor]()
    expected = sample_float(batch, lambda step: seen.append(step.timestep))
    assert len(seen) == DEFAULTS.steps

    with torch.no_grad():
        text, _ = model.prompt_encoder(prompts, "", guided=False, device=model.device)
    noise = initial_noise(batch, [torch.Generator().manual_seed(seed) for seed in seeds])
    weights = [torch.ones((), requires_grad=True) for _ in seen]
    steps = iter(weights)
    latents = sample_latents(
        lambda *noisy: next(steps) * predict(model.pipeline.unet, *noisy, Conditioning(text, embeddings)),
        model.pipeline.scheduler,
        noise,
    )
    np.testing.assert_allclose(np.stack(decode_images(batch, latents.detach())), np.stack(expected), atol=2e-3)
    latents.square().sum().backward()
    assert all(weight.grad for weight in weights)


def test_what_they_show_teaches_the_unet(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor | None] = []
    plain = LatentDiscriminator.scores

    def scores(self: LatentDiscriminator, features: list[Tensor], *, trainable: bool) -> list[Tensor]:
        told.append(features[0])
        return plain(self, features, trainable=trainable)

    monkeypatch.setattr(LatentDiscriminator, "scores", scores)
    losses, gradients = [], []
    for recipe in (with_sampled(share=0.0, attribute_weight=0.0), with_sampled(attribute_weight=0.0), RECIPE, RECIPE):
        loss = replace(trainer, recipe=recipe).loss(torch.arange(4), step_rng(4))
        loss.backward()
        losses.append(loss.item())
        gradients.append(trainer.model.unet.conv_in.weight.grad.clone())
        trainer.model.unet.zero_grad()
    assert losses[2] == losses[3]
    assert len(set(losses)) == 3
    assert len(told) == 3 + 3 * 6  # of predictions, and of sampled images: two for the discriminator, one for the UNet
    assert torch.isfinite(gradients[2]).all()
    assert not torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[1], gradients[2])
    assert all(weights.grad is None for weights in trainer.attribute_heads.parameters())  # type: ignore[union-attr]


def test_attributes_are_learnt_where_prompts_ask_for_them(trainer: AdversarialTrainer) -> None:
    x0 = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    requested = torch.full((2, len(FACE_ATTRIBUTES)), float("nan"))
    requested[1, FACE_ATTRIBUTES.index("smiling")] = 1.0
    trainer._attribute_loss(x0, requested, step_rng(2)).backward()
    assert x0.grad is not None
    assert not x0.grad[0].any()
    assert x0.grad[1].any()


def test_some_show_other_people_of_the_same_gender(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the toy data set each embedding is its photo's number; here latents are too, and genders alternate.
    seen: list[Tensor] = []

    def remember(_: AdversarialTrainer, x0: Tensor, batch: Batch, *__: object) -> Tensor:
        seen.append(torch.stack([batch.latents[:, 0, 0, 0], batch.embeddings[:, 0]]))
        return x0.mean()

    monkeypatch.setattr(AdversarialTrainer, "_appearance_loss", remember)
    plain = pocket_dataset()
    requested = plain.requested.clone()  # type: ignore[union-attr]
    requested[:, 0, FACE_ATTRIBUTES.index("male")] = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    latents = torch.arange(6.0)[:, None, None, None, None].expand_as(plain.latents)
    dataset = replace(plain, requested=requested, latents=latents)
    for share in (0.0, 1.0):
        replace(trainer, recipe=with_sampled(p_other_person=share), dataset=dataset).loss(torch.arange(6), step_rng(6))
    photos, people = seen[1]
    assert torch.equal(photos, people)
    photos, people = seen[3]
    assert not torch.equal(photos, people)
    assert torch.equal(photos % 2, people % 2)


def test_prompts_ask_for_each_attribute_as_often() -> None:
    dataset = pocket_dataset()
    requested = dataset.requested.clone()  # type: ignore[union-attr]
    requested[1:, :, FACE_ATTRIBUTES.index("eyeglasses")] = float("nan")  # one photo of six has glasses, all smile
    photos, variants = replace(dataset, requested=requested).sample_captions(step_rng(400))
    assert set(photos[variants == 1].tolist()) == {0}
    assert set(photos[variants == 0].tolist()) == set(range(6))
    assert 150 < int((variants == 1).sum()) < 250


def test_attributes_need_heads_and_sampled_images() -> None:
    for sampled in ({"attribute_weight": 0.5, "share": 0.5}, {"attribute_weight": 0.5, "attribute_heads": Path("heads")}):
        with pytest.raises(RecipeError, match=r"attribute_weight is 0.5.*0 without attribute_heads and a share"):
            SampledImages(**sampled)  # type: ignore[arg-type]


def test_captions_say_what_is_requested() -> None:
    requested = pocket_dataset().requested
    assert requested is not None
    male, smiling, glasses = (requested[0, :, FACE_ATTRIBUTES.index(name)] for name in ("male", "smiling", "eyeglasses"))
    assert male.nan_to_num(-1).tolist() == [1, -1]
    assert smiling.nan_to_num(-1).tolist() == [1, -1]
    assert glasses.nan_to_num(-1).tolist() == [-1, 1]
