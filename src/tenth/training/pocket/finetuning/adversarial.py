"""Adversarial fine-tuning of the pocket model's UNet: images of few steps should pass for photos, and show what is asked."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.training.loop import fit
from tenth.training.pocket.diffusion import export_averages, prepare
from tenth.training.pocket.discriminator import LatentDiscriminator
from tenth.training.pocket.finetuning.attribute_heads import load_attribute_heads
from tenth.training.pocket.finetuning.prompts import PromptSampler
from tenth.training.pocket.finetuning.recipe import AdversarialRecipe
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer
from tenth.training.pocket.identity_loss import IdentityLoss
from tenth.training.pocket.modules import load_modules


def train_adversarial(recipe: AdversarialRecipe, directory: Path) -> None:
    """Train, and write models as `train_diffusion` does.

    Raises ModelError for heads that do not fit the UNet, DataError if captions ask for nothing and images are to be sampled.
    """
    # The networks; the discriminator and the heads read a frozen UNet.
    data = prepare(recipe, ArrayCache(default_cache_dir()))
    model = data.model
    model.unet.to(memory_format=torch.channels_last).train()
    model.text_encoder.requires_grad_(False)
    frozen = copy.deepcopy(model.unet) if recipe.feature_model is None else load_modules(recipe.feature_model)[0].unet
    discriminator, file = LatentDiscriminator(frozen), recipe.sampled.attribute_heads
    heads = None if file is None else load_attribute_heads(file, discriminator.features)
    identity_loss = IdentityLoss(data.autoencoder, data.encoder)
    known = FACE_ATTRIBUTES if heads is None else heads.reliable
    prompts, sampled = None, recipe.sampled
    if sampled.fraction:
        prompts = PromptSampler.from_captions(data.captions, known, sampled.hard_attributes, sampled.hard_weight)
    guided_unet = frozen if recipe.feature_model is None else copy.deepcopy(model.unet)
    if sampled.guided_model is not None:
        guided_unet = load_modules(sampled.guided_model)[0].unet
    guided_unet.requires_grad_(False)
    trainer = AdversarialTrainer(recipe, model, discriminator, identity_loss, data.dataset, guided_unet, prompts, heads)

    # The training, and its result.
    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        return trainer.loss(data.photo_indices[indices], rng)

    fit({"unet": model.unet, "discriminator": discriminator}, loss, len(data.photo_indices), recipe.schedule, directory)
    export_averages(recipe, data, directory)
