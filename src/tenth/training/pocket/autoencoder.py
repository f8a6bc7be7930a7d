"""Stage 1 of the pocket model: its autoencoder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import Fraction, NonNegative, config_dataclass
from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, reason
from tenth.core.files.tensors import read_tensors, tensor_shapes
from tenth.core.files.writing import write_tensors
from tenth.core.rng import StepRNG
from tenth.data.faces.crops import PhotoDataset, load_face_crops, to_minus_one_one
from tenth.models.pocket.autoencoder import PocketAutoencoder
from tenth.models.pocket.paths import MODEL_DIR
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.schedule import TrainingConfig
from tenth.training.state import tensors_under

NUM_VALIDATION_FACES = 256  # measured at each checkpoint


@config_dataclass
class AutoencoderLoss:
    """What the autoencoder learns by."""

    l2_fraction: Fraction = 0.5  # share of the squared against the absolute error: PSNR against sharpness
    latent_noise: NonNegative = 0.05  # standard deviation added to the latents: neighbours in latent space then decode alike
    normalization_weight: NonNegative = 0.01  # of each latent channel's mean 0 and variance 1, which diffusion assumes

    def __call__(self, model: PocketAutoencoder, pixels: Tensor, rng: StepRNG) -> Tensor:
        """pixels (B, 3, H, W) in [-1, 1] -> the loss, a scalar."""
        latents = model.encoder(pixels)
        noise = rng.normal(*latents.shape[1:])
        error = model.decoder(latents + self.latent_noise * noise).float() - pixels
        drift = latents.float().mean((0, 2, 3)).square() + (latents.float().var((0, 2, 3)) - 1).square()  # (8,)
        pixel_loss = self.l2_fraction * error.square().mean() + (1 - self.l2_fraction) * error.abs().mean()
        loss: Tensor = pixel_loss + self.normalization_weight * drift.mean()
        return loss


@config_dataclass
class AutoencoderRecipe:
    """What recipes/pocket-autoencoder.toml says."""

    data: PhotoDataset
    schedule: TrainingConfig
    loss: AutoencoderLoss = field(default_factory=AutoencoderLoss)
    stage: Literal["autoencoder"] = "autoencoder"


def train_autoencoder(recipe: AutoencoderRecipe, directory: Path) -> None:
    """Train and write `directory`/final/autoencoder.safetensors. PSNR on validation people at each checkpoint."""
    cache = ArrayCache(default_cache_dir())
    faces, validation = (load_face_crops(recipe.data, split, cache) for split in ("train", "validation"))
    torch.manual_seed(recipe.schedule.seed)
    model = create_autoencoder().to(memory_format=torch.channels_last)

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        images = faces.images(indices, rng.uniform() < 0.5)  # mirrored at random
        return recipe.loss(model, images.contiguous(memory_format=torch.channels_last), rng)

    def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> None:
        averaged = create_autoencoder()
        averaged.load_state_dict(tensors_under(ema, "autoencoder"))
        decibels = float(psnr(averaged, validation.crops[:NUM_VALIDATION_FACES]).mean())
        print(f"{images_seen} images: {decibels:.2f} dB on validation people", file=sys.stderr)

    ema = fit({"autoencoder": model}, loss, len(faces.entries), recipe.schedule, directory, on_checkpoint)
    if distributed_state().is_main_process:
        write_tensors(directory / "final/autoencoder.safetensors", tensors_under(ema, "autoencoder"))


def create_autoencoder() -> PocketAutoencoder:
    """The pocket model's autoencoder with random weights."""
    model: PocketAutoencoder = PocketAutoencoder.from_config(PocketAutoencoder.load_config(MODEL_DIR / "vae"))
    return model


def load_autoencoder(path: Path) -> PocketAutoencoder:
    """The autoencoder of a file, in float32. Raises ModelError if the file is missing, damaged or holds other tensors."""
    model = create_autoencoder()
    try:
        _, weights = read_tensors(path)
        if tensor_shapes(weights) != tensor_shapes(model.state_dict()):
            raise UnreadableError("holds other tensors than the pocket model's autoencoder has")
    except (OSError, UnreadableError) as problem:
        needed = "the file of an autoencoder that `tenth train` wrote is needed"
        raise ModelError(f"{path} {reason(problem)}", needed, "Correct the recipe's key `autoencoder`") from problem
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


@torch.no_grad()
def psnr(model: PocketAutoencoder, crops: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each reconstructed crop, (N,), in 8 bits. crops: uint8 (N, 3, H, W)."""
    errors = [(reconstruct(model, batch) - batch.float()).square().mean((1, 2, 3)) for batch in crops.split(32)]
    return 10 * torch.log10(255**2 / torch.cat(errors))


@torch.no_grad()
def reconstruct(model: PocketAutoencoder, crops: Tensor) -> Tensor:
    """Encode and decode crops: uint8 (B, 3, H, W) -> float32, whole numbers from 0 to 255."""
    decoded: Tensor = model.decoder(model.encoder(to_minus_one_one(crops)))
    return ((decoded.clamp(-1, 1) + 1) * 127.5).round()
