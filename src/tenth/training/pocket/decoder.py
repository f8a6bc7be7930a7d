"""Fine-tuning of the pocket model's decoder, for sharper images of the same latents: the encoder stays, bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import FilePath, NonNegative, WholeNumber, config_dataclass
from tenth.core.files.tensors import read_tensors
from tenth.core.files.writing import write_tensors
from tenth.core.rng import StepRNG
from tenth.data.faces.crops import PhotoDataset, load_face_crops
from tenth.models.encoders.dlib_resnet import DlibNet, crops_to_chips, load_dlib_net
from tenth.models.pocket.autoencoder import SHUFFLE_FACTOR, PocketAutoencoder
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.pocket.augmentation import LUMA_WEIGHTS
from tenth.training.pocket.autoencoder import NUM_VALIDATION_FACES, load_autoencoder, psnr, reconstruct
from tenth.training.pocket.dataset import compute_latents
from tenth.training.pocket.discriminator import PatchDiscriminator, feature_matching_loss, hinge_loss
from tenth.training.pocket.identity_loss import feature_distance
from tenth.training.schedule import TrainingConfig
from tenth.training.state import ema_weights

PACKAGED_AUTOENCODER = MODEL_DIR / "vae/diffusion_pytorch_model.safetensors"


@config_dataclass
class DecoderLoss:
    """What the decoder learns by, beside the absolute error of its pixels."""

    adversarial_weight: NonNegative = 0.015  # how much it counts to be taken for a photo, patch by patch
    feature_matching_weight: NonNegative = 0.25  # what the discriminator's layers find
    perceptual_weight: NonNegative = 0.03  # of the features of dlib's first stages
    perceptual_stages: WholeNumber = 2  # of them
    laplacian_weight: NonNegative = 0.02  # that fine detail is as strong as in photos, at each place of the decoder's squares
    latent_noise: NonNegative = 0.05  # standard deviation added to the latents, as for the autoencoder: generated ones are off

    def __call__(self, modules: DecoderModules, latents: Tensor, photos: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """latents (B, 8, h, w), photos (B, 3, H, W) in [-1, 1] -> the loss of decoder and discriminator, a scalar.

        shift: offset of the discriminator's patches, down and across, from 0 to SHUFFLE_FACTOR - 1 pixels: aligned with the
        decoder's blocks, they would make a pattern of blocks the cheapest detail. Each module is trained by its own terms:
        gradients of the discriminator stop at the generated pixels, those of the decoder at the discriminator's weights.
        """
        # What the discriminator says of generated images, for the decoder and for itself, and of photos.
        generated = modules.decoder(latents).float()
        weights = modules.discriminator.normalized_weights()
        frozen_weights = [weight.detach() for weight in weights]
        shifted = crop_shifted(generated.clamp(-1, 1), shift)  # clamped like an image: values out of range gain nothing
        *generated_features, generator_score = modules.discriminator(shifted, frozen_weights)
        *_, generated_score = modules.discriminator(shifted.detach(), weights)
        *photo_features, photo_score = modules.discriminator(crop_shifted(photos, shift), weights)

        # The decoder's terms.
        loss: Tensor = (generated - photos).abs().mean() - self.adversarial_weight * generator_score.float().mean()
        loss = loss + self.laplacian_weight * laplacian_energy_loss(generated, photos)
        photo_targets = [features.detach() for features in photo_features]
        loss = loss + self.feature_matching_weight * feature_matching_loss(generated_features, photo_targets)
        if self.perceptual_weight:
            perceptual_features = modules.face_net.stage_features(crops_to_chips(generated), self.perceptual_stages)
            with torch.no_grad():
                target_features = modules.face_net.stage_features(crops_to_chips(photos), self.perceptual_stages)
            loss = loss + self.perceptual_weight * feature_distance(perceptual_features, target_features).mean()

        # The discriminator's.
        return loss + hinge_loss(photo_score.float(), generated_score.float())


@config_dataclass
class DecoderRecipe:
    """What recipes/pocket-decoder.toml says. autoencoder: the file it goes on from."""

    data: PhotoDataset
    schedule: TrainingConfig
    autoencoder: FilePath = PACKAGED_AUTOENCODER
    loss: DecoderLoss = field(default_factory=DecoderLoss)
    stage: Literal["decoder"] = "decoder"


@dataclass(frozen=True, eq=False)
class DecoderModules:
    """The decoder, its discriminator, and the frozen network of the perceptual loss."""

    decoder: nn.Module
    discriminator: PatchDiscriminator
    face_net: DlibNet


def train_decoder(recipe: DecoderRecipe, directory: Path) -> None:
    """Train, write the same file with another decoder to `directory`/final, and one for each checkpoint beside the run."""
    # The data, and the modules.
    cache = ArrayCache(default_cache_dir())
    faces, validation = (load_face_crops(recipe.data, split, cache) for split in ("train", "validation"))
    model, (_, weights) = load_autoencoder(recipe.autoencoder), read_tensors(recipe.autoencoder)
    latents = compute_latents(faces, model, cache)
    torch.manual_seed(recipe.schedule.seed)
    parts = DecoderModules(model.decoder, PatchDiscriminator(), load_dlib_net())
    for part in (parts.decoder, parts.discriminator, parts.face_net):
        part.to(memory_format=torch.channels_last)

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        mirrored = rng.integers(2)
        noisy_latents = latents[indices, mirrored] + recipe.loss.latent_noise * rng.normal(*latents.shape[2:])
        shift = int(SHUFFLE_FACTOR * rng.scalar()), int(SHUFFLE_FACTOR * rng.scalar())
        photos = faces.images(indices, mirrored).contiguous(memory_format=torch.channels_last)
        return recipe.loss(parts, noisy_latents.contiguous(memory_format=torch.channels_last), photos, shift)

    modules = {"decoder": parts.decoder, "discriminator": parts.discriminator}

    def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> dict[str, float]:
        crops = validation.crops[:NUM_VALIDATION_FACES]
        with ema_weights(modules, ema):
            metrics = {"PSNR": float(psnr(model, crops).mean()), "detail": detail_ratio(model, crops)}
            metrics["pattern"] = grid_artifact_ratio(model, crops)
            write_decoder(directory / f"decoder-{images_seen:08d}.safetensors", model, weights)
        text = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        print(f"{images_seen} images: {text}", file=sys.stderr)
        return {f"validation/{name}": value for name, value in metrics.items()}

    # The training, and its result.
    ema = fit(modules, loss, len(faces.entries), recipe.schedule, directory, on_checkpoint)
    if distributed_state().is_main_process:
        with ema_weights(modules, ema):
            write_decoder(directory / "final/autoencoder.safetensors", model, weights)


def write_decoder(path: Path, model: PocketAutoencoder, original: Mapping[str, Tensor]) -> None:
    """The file `original` with the model's decoder in place of its own, each tensor in the type that it has there."""
    now = model.state_dict()
    tensors = {name: now[name].to(old.dtype) if name.startswith("decoder.") else old for name, old in original.items()}
    write_tensors(path, tensors, {"format": "pt"})


@torch.no_grad()
def detail_ratio(model: PocketAutoencoder, crops: Tensor) -> float:
    """The median share of photos' `laplacian_variance` that the autoencoder reproduces. crops: uint8 (N, 3, H, W)."""
    ratios = [laplacian_variance(reconstruct(model, batch)) / laplacian_variance(batch.float()) for batch in crops.split(32)]
    return float(torch.cat(ratios).median())


@torch.no_grad()
def grid_artifact_ratio(model: PocketAutoencoder, crops: Tensor) -> float:
    """Whether the decoder's blocks are visible: 1.05 for photos, more where there is a pattern.

    The mean square of the Laplacian at each position within a block, the largest over the smallest. crops: uint8 (N, 3, H, W).
    """
    energy = torch.stack([laplacian_energy(reconstruct(model, batch)) for batch in crops.split(32)]).mean(0)
    return float(energy.max() / energy.min())


def laplacian_energy_loss(generated: Tensor, photos: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of two batches' `laplacian_energy`. A scalar."""
    return (laplacian_energy(generated) / laplacian_energy(photos)).log().abs().mean()


def laplacian_energy(pixels: Tensor) -> Tensor:
    """Mean square of the Laplacian of a batch (B, 3, H, W) at each position in a block: (SHUFFLE_FACTOR, SHUFFLE_FACTOR)."""
    squared = laplacian(pixels).square().mean((0, 1))  # (H - 2, W - 2)
    rows, columns = (side // SHUFFLE_FACTOR for side in squared.shape)
    whole_blocks = squared[: rows * SHUFFLE_FACTOR, : columns * SHUFFLE_FACTOR]
    return whole_blocks.view(rows, SHUFFLE_FACTOR, columns, SHUFFLE_FACTOR).mean((0, 2))


def crop_shifted(pixels: Tensor, shift: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) without SHUFFLE_FACTOR rows and columns; `shift` of them are cut off at the top and at the left."""
    top, left = shift
    height, width = pixels.shape[-2:]
    return pixels[..., top : height - SHUFFLE_FACTOR + top, left : width - SHUFFLE_FACTOR + left]


def laplacian_variance(pixels: Tensor) -> Tensor:
    """Variance of the Laplacian in the middle half, where the face is: (N, 3, H, W) from 0 to 255 -> (N,)."""
    height, width = (side // 4 for side in pixels.shape[-2:])
    middle = pixels[..., height:-height, width:-width]
    return laplacian(middle).flatten(1).var(1)


def laplacian(pixels: Tensor) -> Tensor:
    """Of the gray values: (N, 3, H, W) -> (N, 1, H - 2, W - 2)."""
    with torch.autocast(pixels.device.type, enabled=False):  # small differences of large values
        gray = (pixels.float() * pixels.new_tensor(LUMA_WEIGHTS)[:, None, None]).sum(1, keepdim=True)
        return F.conv2d(gray, pixels.new_tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]]))
