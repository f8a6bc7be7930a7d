"""What a training step of the pocket model reads, made up: six photos of three people; and people who have example photos."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tenth.core.files.reading import sha256_of
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.pocket.dataset import PocketDataset, leave_one_out_means
from tenth.training.pocket.discriminator import LatentDiscriminator
from tenth.training.pocket.finetuning.attribute_heads import AttributeHeads
from tenth.training.pocket.finetuning.prompts import PromptSampler
from tenth.training.pocket.finetuning.recipe import AdversarialRecipe, SampledImages
from tenth.training.pocket.finetuning.trainer import AdversarialTrainer
from tenth.training.pocket.identity_loss import IdentityLoss, IdentityLossConfig
from tenth.training.pocket.modules import PocketModules, load_modules
from tenth.training.schedule import TrainingConfig

CAPTIONS = ("a smiling man", "a photo of a person with glasses")


def step_rng(batch: int, step: int = 0) -> StepRNG:
    return StepRNG(0, step, batch)


def pocket_dataset(count: int = 6) -> PocketDataset:
    parts = PocketModules.create(MODEL_DIR)
    embeddings = torch.arange(count)[:, None].float().repeat(1, 128)
    person_spans = torch.tensor([(0, 1), (1, 3), (1, 3), (1, 3), (4, 2), (4, 2)])
    return PocketDataset(
        latents=step_rng(count).normal(2, 8, 16, 16),
        embeddings=embeddings,
        tokens=torch.stack([parts.tokenize(CAPTIONS)] * count),
        person_spans=person_spans,
        mean_embeddings=leave_one_out_means(embeddings, person_spans),
    )


def photo_dataset(folder: Path, photos: list[Path], validation: int = 0) -> PhotoDataset:
    """Example photos as four people of the training split, and as many as that of the validation split."""
    rows = []
    for path in photos:
        place = int(path.stem)
        person, split = (f"v{place}", "validation") if place <= validation else (f"p{place % 4}", "train")
        captions = ("a woman", "a woman with glasses")
        rows.append(ManifestEntry(path.name, person, split, 1, captions[1], captions, sha256_of(path)))
    write_manifest(folder / "people.jsonl", sorted(rows, key=lambda row: row.person))
    return PhotoDataset(folder / "people.jsonl", photos[0].parent)


SAMPLED_RECIPE = AdversarialRecipe(
    data=PhotoDataset(Path(), Path()),
    autoencoder=Path(),
    schedule=TrainingConfig(1, 8),
    sampled=SampledImages(fraction=1.0, attribute_heads=Path(), attribute_weight=0.5),
    identity_loss=IdentityLossConfig(weight=1.0, p_apply=1.0, min_alphas_cumprod=0.0),
)


def with_sampled(**changes: Any) -> AdversarialRecipe:
    return replace(SAMPLED_RECIPE, sampled=replace(SAMPLED_RECIPE.sampled, **changes))


def adversarial_trainer(recipe: AdversarialRecipe) -> AdversarialTrainer:
    """Of the package's own networks, on the toy data set; the attribute heads are random."""
    model, autoencoder, encoder = load_modules(MODEL_DIR)
    model.unet.train()
    discriminator = LatentDiscriminator(copy.deepcopy(model.unet))
    torch.manual_seed(0)
    heads = AttributeHeads(discriminator.features.channels, 200).eval().requires_grad_(False)
    dataset, prompts = pocket_dataset(), PromptSampler.from_captions([CAPTIONS] * 6, FACE_ATTRIBUTES)
    identity_loss, guided_unet = IdentityLoss(autoencoder, encoder), discriminator.features.unet
    return AdversarialTrainer(recipe, model, discriminator, identity_loss, dataset, guided_unet, prompts, heads)
