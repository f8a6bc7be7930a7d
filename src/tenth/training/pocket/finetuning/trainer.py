"""A step of adversarial fine-tuning: what the UNet predicts is compared with photos, and what it shows is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.models.adapters.ip_adapter import set_adapter_scale
from tenth.models.denoiser import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL, Conditioning, predict, predict_x0
from tenth.models.encoders.dlib_resnet import crops_to_chips
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.diffusion_loss import min_snr_weight
from tenth.training.frozen_diffusion import attention_kernels
from tenth.training.pocket.dataset import PocketDataset
from tenth.training.pocket.decoder import laplacian_energy
from tenth.training.pocket.discriminator import LatentDiscriminator, hinge_loss
from tenth.training.pocket.finetuning.attribute_heads import AttributeHeads, requested_loss
from tenth.training.pocket.finetuning.prompts import PromptSampler
from tenth.training.pocket.finetuning.recipe import AdversarialRecipe, num_sampled
from tenth.training.pocket.finetuning.sampling import guided_velocity, sample_latents
from tenth.training.pocket.identity_loss import IdentityLoss, jittered
from tenth.training.pocket.modules import PocketModules


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step starts from: latents of photos (B, 8, h, w), their embeddings (B, 128), conditions, and timesteps (B,).

    with_person: which of the images should show their person.
    """

    latents: Tensor
    embeddings: Tensor
    conditioning: Conditioning
    timesteps: Tensor
    with_person: Tensor


@dataclass(frozen=True, eq=False)
class AdversarialTrainer:
    """The UNet, its discriminator, the frozen networks of the losses, and the data.

    guided_unet: what sampled images are to look like, with guidance. prompts: of sampled images, where the recipe has some.
    attribute_heads: on the discriminator's features, for what they ask.
    """

    recipe: AdversarialRecipe
    model: PocketModules
    discriminator: LatentDiscriminator
    identity_loss: IdentityLoss
    dataset: PocketDataset
    guided_unet: Any
    prompts: PromptSampler | None = None
    attribute_heads: AttributeHeads | None = None

    def loss(self, indices: Tensor, rng: StepRNG) -> Tensor:
        """One step's loss of UNet and discriminator on photos (B,), a scalar; each is trained by its own terms."""
        # Photos, conditions and noise; some images start where sampling would have come to.
        config, batch = self.recipe.loss, self._batch(indices, rng)
        below = batch.timesteps < config.max_timestep
        noise = rng.normal(*batch.latents.shape[1:])
        on_policy = below & (rng.uniform() < config.p_on_policy)
        noisy = self._noised(batch.latents, noise, batch.timesteps)
        noisy = torch.where(on_policy[:, None, None, None], self._own_latents(batch, on_policy, noise, rng), noisy)

        # The prediction, and its denoising error where the noise is known.
        x0, velocity = self._predict(noisy, batch.timesteps, batch.conditioning)
        target = self.model.scheduler.get_velocity(batch.latents, noise, batch.timesteps)
        alphas = self._alphas(batch.timesteps)
        weight = min_snr_weight(alphas / (1 - alphas), "v_prediction", self.recipe.min_snr_gamma)
        loss: Tensor = (weight * (velocity - target).square().mean((1, 2, 3)) * ~on_policy).mean()

        # What it shows: the person, in even detail, and, after the next step of sampling, a photo.
        loss = loss + self._appearance_loss(x0, batch, alphas, rng)
        step = config.step_size * (config.min_step + (1 - config.min_step) * rng.uniform())
        later = (batch.timesteps - step).long().clamp(min=1)
        loss = loss + self._adversarial_loss(x0, batch, below, later, config.adversarial_weight, rng)
        return loss if self.prompts is None else loss + self._sampled_loss(self.prompts, rng)

    def _batch(self, indices: Tensor, rng: StepRNG) -> Batch:
        """The inputs of a step, some of their conditions dropped."""
        dropout, config, dataset = self.recipe.conditioning_dropout, self.recipe.loss, self.dataset
        drop_image, drop_text = dropout.masks(rng.uniform())
        mirrored, variant = rng.integers(2), rng.integers(dataset.tokens.shape[1])
        embeddings = dataset.reference_embeddings(indices, dropout, rng).masked_fill(drop_image[:, None, None], 0.0)
        tokens = torch.where(drop_text[:, None], self.model.tokenize([""]), dataset.tokens[indices, variant])
        text = self._encode(tokens)
        anywhere = rng.integers(self.model.scheduler.config.num_train_timesteps)
        timesteps = torch.where(rng.uniform() < config.p_below, rng.integers(config.max_timestep), anywhere)
        conditioning = Conditioning(text, embeddings)

        # Some steps are without the adapter, in all networks.
        without_adapter = rng.scalar() < dropout.p_no_adapter
        self._set_adapter_scale(0.0 if without_adapter else 1.0)
        with_person = torch.zeros_like(drop_image) if without_adapter else ~drop_image
        return Batch(dataset.latents[indices, mirrored], dataset.embeddings[indices], conditioning, timesteps, with_person)

    @torch.no_grad()
    def _own_latents(self, batch: Batch, selected: Tensor, noise: Tensor, rng: StepRNG) -> Tensor:
        """Where a step of sampling leads to, with its own noise or with new: (B, 8, h, w), zero where not selected (B,)."""
        last = self.model.scheduler.config.num_train_timesteps - 1
        earlier = (batch.timesteps + self.recipe.loss.step_size * rng.uniform()).long().clamp(max=last)
        renew, new_noise = rng.uniform() < 0.5, rng.normal(*noise.shape[1:])
        (rows,), result = torch.where(selected), torch.zeros_like(noise)
        if len(rows):
            noisy = self._noised(batch.latents[rows], noise[rows], earlier[rows])
            x0, _ = self._predict(noisy, earlier[rows], _rows_of(batch.conditioning, rows))
            alphas = self._alphas(earlier[rows])[:, None, None, None]
            implied_noise = (noisy - alphas.sqrt() * x0) / (1 - alphas).sqrt()
            next_noise = torch.where(renew[rows, None, None, None], new_noise[rows], implied_noise)
            result[rows] = self._noised(x0, next_noise, batch.timesteps[rows])
        return result

    def _appearance_loss(self, x0: Tensor, batch: Batch, alphas: Tensor, rng: StepRNG) -> Tensor:
        """The identity loss, and how unevenly fine detail falls on the decoder's squares, for some of the images. A scalar.

        alphas: (B,), the share of signal in the latents from which x0 was predicted.
        """
        config = self.recipe.identity_loss
        (rows,) = torch.where(batch.with_person & (rng.uniform() < config.p_apply) & (alphas >= config.min_alphas_cumprod))
        amounts = self.recipe.loss.jitter * (2 * rng.uniform(3) - 1)  # also where no row needs them: all make the same calls
        if not len(rows):
            return x0.new_zeros(())
        pixels = self.identity_loss.decoder(x0[rows])
        descriptors = self.identity_loss.face_net(crops_to_chips(jittered(pixels, amounts[rows]))).float()
        standardized = self.identity_loss.encoder.standardize(descriptors)
        errors = 1 - F.cosine_similarity(standardized, batch.embeddings[rows], dim=1)
        energy = laplacian_energy(pixels).log()
        loss: Tensor = config.weight * (alphas[rows] * errors).sum() / len(x0)
        return loss + self.recipe.loss.pattern_weight * (energy - energy.mean()).abs().mean()

    def _adversarial_loss(
        self, x0: Tensor, batch: Batch, selected: Tensor, later: Tensor, weight: float, rng: StepRNG
    ) -> Tensor:
        """What the discriminator says of predictions (B, 8, h, w), and its own loss. A scalar.

        selected: at which it looks, (B,). later: after how much noise, timesteps (B,): that of the next step of sampling.
        weight: of the first.
        One row and one column of the latents are left out, at random the first or the last: on a fixed grid of the UNet's
        strides a pattern would be the cheapest detail.
        """
        noises, (top, left) = [rng.normal(*x0.shape[1:]) for _ in range(2)], (int(2 * rng.scalar()) for _ in range(2))
        (rows,) = torch.where(selected)
        if not len(rows):  # gradients of zero: processes average those of all weights
            return 0 * torch.stack([weights.sum() for weights in self.discriminator.parameters()]).sum()
        later, conditioning = later[rows], _rows_of(batch.conditioning, rows)
        height, width = (side - 1 for side in x0.shape[-2:])
        generated, photos = (
            self._noised(latents[rows], noise[rows], later)[..., top : top + height, left : left + width]
            for latents, noise in zip((x0, batch.latents), noises, strict=True)
        )

        # Scores that teach the UNet leave the heads' weights alone, and those that teach the heads the UNet's.
        with sdpa_kernel(attention_kernels(x0.device)):
            generated_features = self.discriminator.features(generated, later, conditioning)
            with torch.no_grad():
                photo_features = self.discriminator.features(photos, later, conditioning)
        generator_scores = self.discriminator.scores(generated_features, trainable=False)
        generated_scores = self.discriminator.scores([each.detach() for each in generated_features], trainable=True)
        photo_scores = self.discriminator.scores(photo_features, trainable=True)
        own_losses = [hinge_loss(*pair) for pair in zip(photo_scores, generated_scores, strict=True)]
        adversarial = -torch.stack([scores.mean() for scores in generator_scores]).mean()
        return weight * adversarial + torch.stack(own_losses).mean()

    def _sampled_loss(self, prompts: PromptSampler, rng: StepRNG) -> Tensor:
        """The same of images that are sampled from noise with captions as prompts, and are they as asked. A scalar.

        The person may be another one, as users ask for what no photo shows; so the discriminator is told the prompt alone, and
        who it is by the mean of photos: one photo's embedding would ask for its glasses again.
        """
        # Noise, prompts, and persons, for some of the images, evenly over micro-batches.
        config, dataset, indices = self.recipe.sampled, self.dataset, rng.batch_indices().double()
        (rows,) = torch.where(((indices + 1) * config.fraction).floor() > (indices * config.fraction).floor())
        own = rng.selected(rows)
        noise, mirrored = own.normal(*dataset.latents.shape[2:]), own.integers(2)
        photos, variants = prompts.captions(own)
        others, use_other = prompts.other_people(photos, own), own.uniform() < config.p_other_person
        people = torch.where(use_other, others, photos)
        embeddings = dataset.reference_embeddings(people, self.recipe.conditioning_dropout, own)
        levels = config.min_timestep + own.integers(config.max_timestep - config.min_timestep)
        without_person = rng.scalar() < config.p_without_person
        if not len(rows):  # other micro-batches draw on, which is no matter: this is the step's last loss
            return noise.new_zeros(())

        # What sampling leads to; some steps' images are of nobody, as without an adapter.
        self._set_adapter_scale(0.0 if without_person else 1.0)
        text = self._encode(dataset.tokens[photos, variants])
        conditioning, nobody = Conditioning(text, embeddings), Conditioning(text, torch.zeros_like(embeddings))
        x0 = sample_latents(lambda x, t: self._predict(x, t, conditioning)[1], self.model.scheduler, noise)
        loss = x0.new_zeros(())
        if config.guided_weight:
            guided = self._guided_latents(noise, conditioning, prompts.requested[photos, variants])
            loss = loss + config.guided_weight * (x0 - guided).square().mean()
        self._set_adapter_scale(1.0)

        # And what photos of these prompts show.
        everything = torch.ones_like(rows, dtype=torch.bool)
        with_person = torch.full_like(everything, not without_person)
        photo_latents = dataset.latents[photos, mirrored]
        sampled = Batch(photo_latents, dataset.mean_embeddings[people], nobody, torch.zeros_like(rows), with_person)
        loss = loss + self._appearance_loss(x0, sampled, torch.ones(len(rows)), own)
        loss = loss + self._adversarial_loss(x0, sampled, everything, levels, config.adversarial_weight, own)
        if config.attribute_weight:
            loss = loss + config.attribute_weight * self._attribute_loss(x0, prompts.requested[photos, variants], own)
        fraction = num_sampled(config.fraction, rng.batch_size) / rng.batch_size
        return config.weight * len(rows) / (fraction * len(indices)) * loss

    @torch.no_grad()
    def _guided_latents(self, noise: Tensor, conditioning: Conditioning, requested: Tensor) -> Tensor:
        """What `guided_unet` shows, (B, 8, h, w). requested: as of `PromptSampler`, (B, S)."""
        assert conditioning.image_embeddings is not None
        nobody = replace(conditioning, image_embeddings=torch.zeros_like(conditioning.image_embeddings))
        nothing = replace(nobody, prompts=self._encode(self.model.tokenize([""]).expand(len(noise), -1)))
        terms = {UNCONDITIONAL: nothing, CONDITIONAL: conditioning, TEXT_ONLY: nobody}
        config, with_text = self.recipe.sampled, None
        if config.guide_hard_alone:
            with_text = (requested[:, [name in config.hard_attributes for name in FACE_ATTRIBUTES]] == 1).any(1)
        scales = config.guidance_scale, config.text_guidance_scale
        velocity = guided_velocity(partial(predict, self.guided_unet), terms, *scales, with_text)
        with sdpa_kernel(attention_kernels(noise.device)):
            return sample_latents(velocity, self.model.scheduler, noise)

    def _attribute_loss(self, x0: Tensor, requested: Tensor, rng: StepRNG) -> Tensor:
        """Whether latents (B, 8, h, w) show the attributes (B, S) that their prompts ask for. A scalar."""
        assert self.attribute_heads is not None
        levels, noise = rng.integers(self.attribute_heads.max_timestep), rng.normal(*x0.shape[1:])
        no_prompt = self._encode(self.model.tokenize([""]).expand(len(x0), -1))
        nobody = Conditioning(no_prompt, x0.new_zeros(len(x0), 1, self.dataset.embeddings.shape[1]))
        with sdpa_kernel(attention_kernels(x0.device)):
            features = self.discriminator.features(self._noised(x0, noise, levels), levels, nobody)
        return requested_loss(self.attribute_heads(features), requested).mean()

    @torch.no_grad()
    def _encode(self, tokens: Tensor) -> PromptEmbeddings:
        """Prompts (B, T), encoded."""
        return PromptEmbeddings(self.model.text_encoder(tokens).last_hidden_state)

    def _set_adapter_scale(self, scale: float) -> None:
        for unet in (self.model.unet, self.discriminator.features.unet, self.guided_unet):
            set_adapter_scale(unet, scale)

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        """The denoised latents and the velocity that the UNet predicts, (B, 8, h, w) each."""
        with sdpa_kernel(attention_kernels(noisy.device)):
            velocity = predict(self.model.unet, noisy.contiguous(memory_format=torch.channels_last), timesteps, conditioning)
        return predict_x0(noisy, velocity.float(), self._alphas(timesteps), "v_prediction"), velocity.float()

    def _noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        noisy: Tensor = self.model.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    def _alphas(self, timesteps: Tensor) -> Tensor:
        alphas: Tensor = self.model.scheduler.alphas_cumprod[timesteps]  # (B,)
        return alphas


def _rows_of(conditioning: Conditioning, rows: Tensor) -> Conditioning:
    assert conditioning.image_embeddings is not None
    return Conditioning(conditioning.prompts[rows], conditioning.image_embeddings[rows])
