"""Images sampled inside of a training step: they are the sampler's, and what they show teaches the UNet."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.models.adapters.ip_adapter import cross_attention_layers
from tenth.models.denoiser import Conditioning, Conditions, predict
from tenth.models.pocket.loader import load_pocket
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, decode_images, initial_noise, sample_float
from tenth.training.pocket.discriminator import UNetFeatures
from tenth.training.pocket.finetuning.sampling import DEFAULTS, guided_velocity, sample_latents
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer, Batch
from toy_latents import SAMPLED_RECIPE, adversarial_trainer, pocket_dataset, step_rng, with_sampled


@pytest.fixture(scope="module")
def trainer() -> AdversarialTrainer:
    return adversarial_trainer(SAMPLED_RECIPE)


def test_sampling_is_the_samplers_and_each_step_is_taught() -> None:
    model = load_pocket()
    embeddings = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(0))
    prompts, seeds = ("a photo of a smiling person", "a picture of a person, outdoors"), (3, 4)
    batch = SamplingBatch(
        model, SamplingConfig(precision="fp32", guidance_scale=1.0, text_guidance_scale=0.0), prompts, seeds, embeddings
    )
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


@torch.no_grad()
def test_what_they_keep_to_is_the_samplers_guidance() -> None:
    model, embeddings = load_pocket(), torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(0))
    prompts, seeds = ("a photo of a smiling person", "a picture of a person, outdoors"), (3, 4)
    sampling = SamplingConfig(precision="fp32", guidance_scale=1.4, text_guidance_scale=5.0)
    batch = SamplingBatch(model, sampling, prompts, seeds, embeddings)
    noise = initial_noise(batch, [torch.Generator().manual_seed(seed) for seed in seeds])
    terms = model.conditionings(Conditions(prompts, guided=True, embeddings=embeddings))
    without = replace(batch, sampling=replace(sampling, text_guidance_scale=0.0))
    expected, first = np.stack(sample_float(batch)), np.stack(sample_float(without))[:1]
    for with_text, wanted in ((None, expected), (torch.tensor([False, True]), np.concatenate([first, expected[1:]]))):
        velocity = guided_velocity(lambda *noisy: predict(model.pipeline.unet, *noisy), terms, 1.4, 5.0, with_text)
        images = decode_images(batch, sample_latents(velocity, model.pipeline.scheduler, noise))
        np.testing.assert_allclose(np.stack(images), wanted, atol=2e-3)


def test_they_come_nearer_to_what_was_shown_before(trainer: AdversarialTrainer) -> None:
    recipe = with_sampled(weight=100.0, guided_weight=100.0, attribute_weight=0.0, attribute_heads=None)
    other = replace(trainer, recipe=recipe, model=copy.deepcopy(trainer.model))
    noise = step_rng(4, 1).normal(8, 16, 16)
    conditioning = Conditioning(other._encode(other.dataset.tokens[:4, 0]), other.dataset.embeddings[:4, None])
    before = other._guided_latents(noise, conditioning, other.prompts.requested[:4, 0])

    def distance() -> float:
        with torch.no_grad():
            x0 = sample_latents(lambda *noisy: other._predict(*noisy, conditioning)[1], other.model.scheduler, noise)
        return float((x0 - before).square().mean())

    optimizer, distances = torch.optim.SGD(other.model.unet.parameters(), lr=1e-7), [distance()]
    for step in range(3):
        other.loss(torch.arange(4), step_rng(4, step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        distances.append(distance())
    assert distances[-1] < distances[0]
    assert torch.equal(
        other._guided_latents(noise, conditioning, other.prompts.requested[:4, 0]), before
    )  # the UNet that learns is another


def test_text_guidance_may_be_for_hard_attributes_alone(trainer: AdversarialTrainer) -> None:
    noise = step_rng(2, 1).normal(8, 16, 16)
    conditioning = Conditioning(trainer._encode(trainer.dataset.tokens[:2, 0]), trainer.dataset.embeddings[:2, None])
    requested = torch.full((2, len(FACE_ATTRIBUTES)), float("nan"))
    requested[:, FACE_ATTRIBUTES.index("hat")] = torch.tensor([0.0, 1.0])

    def guided(**changes: Any) -> Tensor:
        recipe = with_sampled(guided_weight=1.0, **changes)
        return replace(trainer, recipe=recipe)._guided_latents(noise, conditioning, requested)

    alone = guided(hard_attributes=("hat",), guide_hard_alone=True)
    torch.testing.assert_close(alone, torch.stack([guided(text_guidance_scale=0.0)[0], guided()[1]]))
    assert not torch.equal(alone[0], guided()[0])


def test_what_they_show_teaches_the_unet(trainer: AdversarialTrainer) -> None:
    losses, gradients = [], []
    for prompts, recipe in (
        (None, SAMPLED_RECIPE),
        (trainer.prompts, with_sampled(attribute_weight=0.0, attribute_heads=None)),
        *[(trainer.prompts, SAMPLED_RECIPE)] * 2,
    ):
        loss = replace(trainer, recipe=recipe, prompts=prompts).loss(torch.arange(4), step_rng(4))
        loss.backward()
        losses.append(loss.item())
        gradients.append(trainer.model.unet.conv_in.weight.grad.clone())
        trainer.model.unet.zero_grad()
    assert losses[2] == losses[3]
    assert len(set(losses)) == 3
    assert torch.isfinite(gradients[2]).all()
    assert not torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[1], gradients[2])
    assert all(weights.grad is None for weights in trainer.discriminator.features.unet.parameters())


def test_the_discriminator_is_told_the_prompt_alone(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor] = []
    plain = UNetFeatures.__call__

    def features(self: UNetFeatures, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> list[Tensor]:
        assert conditioning.image_embeddings is not None
        told.append(conditioning.image_embeddings)
        return plain(self, latents, timesteps, conditioning)

    monkeypatch.setattr(UNetFeatures, "__call__", features)
    trainer.loss(torch.arange(4), step_rng(4))
    assert [bool(each.any()) for each in told] == [True, True, False, False, False]  # the last is the heads' look


def test_a_step_against_the_gradient_shows_more_of_what_is_asked(trainer: AdversarialTrainer) -> None:
    x0 = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    requested = torch.full((2, len(FACE_ATTRIBUTES)), float("nan"))
    requested[1, FACE_ATTRIBUTES.index("smiling")] = 1.0
    before = trainer._attribute_loss(x0, requested, step_rng(2))
    before.backward()
    assert x0.grad is not None
    assert not x0.grad[0].any()
    with torch.no_grad():
        after = trainer._attribute_loss(x0 - 0.05 * x0.grad / x0.grad.norm(), requested, step_rng(2))
    assert after.item() < before.item()


def test_some_show_other_people(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the toy data set each embedding is its photo's number; here latents are too.
    seen: list[Tensor] = []

    def remember(_: AdversarialTrainer, x0: Tensor, batch: Batch, *__: object) -> Tensor:
        seen.append(torch.stack([batch.latents[:, 0, 0, 0], batch.embeddings[:, 0]]))
        return x0.mean()

    monkeypatch.setattr(AdversarialTrainer, "_appearance_loss", remember)
    plain = pocket_dataset()
    numbers = torch.arange(6.0)
    latents = numbers[:, None, None, None, None].expand_as(plain.latents)
    dataset = replace(plain, latents=latents, mean_embeddings=plain.embeddings)
    for share in (0.0, 1.0):
        replace(trainer, recipe=with_sampled(p_other_person=share), dataset=dataset).loss(torch.arange(6), step_rng(6))
    photos, people = seen[1]
    assert torch.equal(photos, people)
    photos, people = seen[3]
    assert int((photos != people).sum()) >= 3


def test_images_of_nobody_are_without_the_adapter(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    scales, with_person = list[float](), list[Tensor]()
    plain = AdversarialTrainer._guided_latents

    def guided(self: AdversarialTrainer, noise: Tensor, conditioning: Conditioning, requested: Tensor) -> Tensor:
        scales.extend(self.model.unet.attn_processors[name].scale[0] for _, name, _ in cross_attention_layers(self.model.unet))
        return plain(self, noise, conditioning, requested)

    def appearance(_: AdversarialTrainer, x0: Tensor, batch: Batch, *__: object) -> Tensor:
        with_person.append(batch.with_person)
        return x0.mean()

    monkeypatch.setattr(AdversarialTrainer, "_guided_latents", guided)
    monkeypatch.setattr(AdversarialTrainer, "_appearance_loss", appearance)
    for share in (0.0, 1.0):
        replace(trainer, recipe=with_sampled(guided_weight=1.0, p_without_person=share)).loss(torch.arange(4), step_rng(4))
    assert scales == [1.0] * (len(scales) // 2) + [0.0] * (len(scales) // 2)
    assert scales
    assert with_person[1].all()
    assert not with_person[3].any()


@pytest.mark.parametrize(("fraction", "parts"), [(0.5, [2, 2]), (0.25, [1, 1]), (0.125, [0, 1])])
def test_parts_of_a_batch_sample_what_the_whole_does(
    trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch, fraction: float, parts: list[int]
) -> None:
    sampled: list[Tensor] = []

    def guided(_: AdversarialTrainer, noise: Tensor, conditioning: Conditioning, __: Tensor) -> Tensor:
        assert conditioning.image_embeddings is not None
        read = (noise, conditioning.prompts.hidden, conditioning.image_embeddings)
        sampled.append(torch.cat([each.flatten(1) for each in read], 1))
        return noise

    monkeypatch.setattr(AdversarialTrainer, "_guided_latents", guided)
    for noisy_loss in ("_appearance_loss", "_adversarial_loss"):
        monkeypatch.setattr(AdversarialTrainer, noisy_loss, lambda _, x0, *__: x0.new_zeros(()))
    changes = {"guided_weight": 1.0, "attribute_weight": 0.0, "attribute_heads": None}
    other = replace(trainer, recipe=with_sampled(fraction=fraction, **changes))
    losses, sizes = [], []
    for part in (slice(0, 4), slice(4, 8), slice(None)):
        before = len(sampled)
        photos = torch.arange(8)[part] % 6
        losses.append(other._sampled_loss(other.prompts, StepRNG(0, 0, 8, part))) if other.prompts else None
        assert torch.isfinite(other.loss(photos, StepRNG(0, 0, 8, part)))
        sizes.append(len(sampled[before]) if len(sampled) > before else 0)
    assert sizes == [*parts, sum(parts)]
    firsts = sampled[::2]  # of each part by itself
    torch.testing.assert_close(torch.cat(firsts[:-1]), firsts[-1])
    torch.testing.assert_close(torch.stack(losses[:2]).mean(), losses[2])
