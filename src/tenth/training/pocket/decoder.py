"""The pocket model's decoder goes on learning, for sharper pictures of the same latents: the encoder stays to the last bit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.cache import Store, default_store
from tenth.core.file_writing import write_tensors
from tenth.core.rng import Draws
from tenth.core.tensor_reading import read_tensors
from tenth.data.face_crops import People, load_faces
from tenth.models.encoders.dlib_resnet import DlibNet, chips_of, open_dlib_net
from tenth.models.pocket.autoencoder import SHUFFLE, PocketAutoencoder
from tenth.models.pocket.paths import CONFIGS
from tenth.training.loop import fit
from tenth.training.pocket.autoencoder import open_autoencoder, psnr, reconstructed
from tenth.training.pocket.dataset import latents_of
from tenth.training.pocket.discriminator import PatchDiscriminator, hinge, matching
from tenth.training.pocket.identity_loss import feature_distance
from tenth.training.schedule import Schedule
from tenth.training.state import averaged

PACKAGED = CONFIGS / "vae/diffusion_pytorch_model.safetensors"
WATCHED = 256  # validation faces that are measured at each checkpoint
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class DecoderLoss:
    """What the decoder learns by, beside the absolute error of its pixels."""

    adversarial: float = 0.015  # how much it counts to be taken for a photo, patch by patch
    matching: float = 0.25  # what the discriminator's layers find
    features: float = 0.03  # what the first stages of dlib's recogniser find
    stages: int = 2  # of them
    energy: float = 0.02  # that the fine detail is as strong as in photos, at each place within the decoder's squares
    noise: float = 0.05  # standard deviation added to the latents, as the autoencoder learnt: generated ones are not exact

    def __call__(self, parts: Sharpening, latents: Tensor, photos: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """latents (B, 8, h, w), photos (B, 3, H, W) in [-1, 1] -> the loss of decoder and discriminator, a scalar.

        shift: where the discriminator begins to look, down and across, from 0 to SHUFFLE - 1. Its patches would else always lie
        as the squares that the decoder puts together, and a pattern of such squares would be the cheapest detail.

        Each learns by its own terms alone: the discriminator sees drawn pixels, the decoder the discriminator's weights, as
        they are.
        """
        drawn = parts.decoder(latents).float()
        learning = parts.discriminator.weights()
        still = [weight.detach() for weight in learning]
        shown = shifted(drawn.clamp(-1, 1), shift)  # clamped as a picture is: nothing is won by running out of it
        *seen, score = parts.discriminator(shown, still)
        *_, drawn_score = parts.discriminator(shown.detach(), learning)
        *asked, photo_score = parts.discriminator(shifted(photos, shift), learning)

        loss: Tensor = (drawn - photos).abs().mean() - self.adversarial * score.float().mean()
        loss = loss + self.energy * energy_distance(drawn, photos)
        loss = loss + self.matching * matching(seen, [each.detach() for each in asked])
        if self.features:
            found = parts.net.stages(chips_of(drawn), self.stages)
            with torch.no_grad():
                wanted = parts.net.stages(chips_of(photos), self.stages)
            loss = loss + self.features * feature_distance(found, wanted).mean()
        return loss + hinge(photo_score.float(), drawn_score.float())


@dataclass(frozen=True)
class DecoderRecipe:
    """What recipes/pocket-decoder.toml says. autoencoder: the file it goes on from."""

    data: People
    schedule: Schedule
    autoencoder: Path = PACKAGED
    loss: DecoderLoss = field(default_factory=DecoderLoss)
    stage: str = "decoder"


@dataclass(frozen=True, eq=False)
class Sharpening:
    """The decoder, what it learns against, and what looks on."""

    decoder: nn.Module
    discriminator: PatchDiscriminator
    net: DlibNet


def train_decoder(recipe: DecoderRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final/autoencoder.safetensors: the same file with another decoder.

    PSNR and detail on validation people at each checkpoint, whose file stays beside the run, to choose by eye.
    """
    store = Store(default_store())
    faces, validation = (load_faces(recipe.data, split, store) for split in ("train", "validation"))
    model, (_, weights) = open_autoencoder(recipe.autoencoder), read_tensors(recipe.autoencoder)
    latents = latents_of(faces, model, store)
    torch.manual_seed(recipe.schedule.seed)
    parts = Sharpening(model.decoder, PatchDiscriminator(), open_dlib_net())
    for part in (parts.decoder, parts.discriminator, parts.net):
        part.to(memory_format=torch.channels_last)

    def loss(indices: Tensor, draws: Draws) -> Tensor:
        mirrored = draws.integers(2)
        photos = faces.pictures(indices, mirrored)
        wanted = latents[indices, mirrored]
        wanted = wanted + recipe.loss.noise * draws.normal(*wanted.shape[1:])
        last, shift = torch.channels_last, (int(SHUFFLE * draws.once()), int(SHUFFLE * draws.once()))
        return recipe.loss(parts, wanted.contiguous(memory_format=last), photos.contiguous(memory_format=last), shift)

    modules = {"decoder": parts.decoder, "discriminator": parts.discriminator}

    def watch(seen: int, average: Mapping[str, Tensor]) -> dict[str, float]:
        crops = validation.crops[:WATCHED]
        with averaged(modules, average):
            found = {"PSNR": float(psnr(model, crops).mean()), "detail": detail(model, crops), "pattern": pattern(model, crops)}
            write_decoder(directory / f"decoder-{seen:08d}.safetensors", model, weights)
        print(
            f"{seen} images: {found['PSNR']:.2f} dB, detail {found['detail']:.3f}, pattern {found['pattern']:.2f}",
            file=sys.stderr,
        )
        return {f"validation/{name}": value for name, value in found.items()}

    average = fit(modules, loss, len(faces.rows), recipe.schedule, directory, watch)
    with averaged(modules, average):
        write_decoder(directory / "final/autoencoder.safetensors", model, weights)


def write_decoder(path: Path, model: PocketAutoencoder, before: Mapping[str, Tensor]) -> None:
    """The autoencoder's file with the model's decoder and the encoder of `before`, each tensor as wide as there."""
    now = model.state_dict()
    tensors = {name: now[name].to(old.dtype) if name.startswith("decoder.") else old for name, old in before.items()}
    write_tensors(path, tensors, {"format": "pt"})


@torch.no_grad()
def detail(model: PocketAutoencoder, crops: Tensor) -> float:
    """How much of the photos' fine detail the autoencoder draws within the face: 1 is all of it.

    The median over crops of the ratio of `laplacian_variance`. crops: uint8 (N, 3, H, W).
    """
    ratios = [laplacian_variance(reconstructed(model, batch)) / laplacian_variance(batch.float()) for batch in crops.split(32)]
    return float(torch.cat(ratios).median())


@torch.no_grad()
def pattern(model: PocketAutoencoder, crops: Tensor) -> float:
    """Whether the squares that the decoder puts together are to be seen: 1.05 of photos, more where there is a pattern.

    The mean square of the Laplacian at each place within the squares, the largest over the smallest. crops: (N, 3, H, W).
    """
    found = torch.stack([energies(reconstructed(model, batch)) for batch in crops.split(32)]).mean(0)
    return float(found.max() / found.min())


def energy_distance(drawn: Tensor, photos: Tensor) -> Tensor:
    """How far apart the logarithms of a batch's `energies` are, the mean. A scalar."""
    return (energies(drawn) / energies(photos)).log().abs().mean()


def energies(pixels: Tensor) -> Tensor:
    """Mean square of the Laplacian of a batch (B, 3, H, W), at each place within the decoder's squares: (SHUFFLE, SHUFFLE)."""
    found = laplacian(pixels).square().mean((0, 1))  # (H - 2, W - 2)
    height, width = (side // SHUFFLE * SHUFFLE for side in found.shape)
    return found[:height, :width].view(height // SHUFFLE, SHUFFLE, width // SHUFFLE, SHUFFLE).mean((0, 2))


def shifted(pixels: Tensor, shift: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) without SHUFFLE rows and columns, of which `shift` say how many at the top and at the left."""
    down, across = shift
    height, width = pixels.shape[-2:]
    return pixels[..., down : height - SHUFFLE + down, across : width - SHUFFLE + across]


def laplacian_variance(pixels: Tensor) -> Tensor:
    """Variance of the Laplacian of the grey values in the middle half, where the face is: (N, 3, H, W) of 0 to 255 -> (N,)."""
    height, width = (side // 4 for side in pixels.shape[-2:])
    middle = pixels[..., height:-height, width:-width]
    return laplacian(middle).flatten(1).var(1)


def laplacian(pixels: Tensor) -> Tensor:
    """Of the grey values: (N, 3, H, W) -> (N, 1, H - 2, W - 2)."""
    with torch.autocast(pixels.device.type, enabled=False):  # small differences of large values
        grey = (pixels.float() * pixels.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
        return F.conv2d(grey, pixels.new_tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]]))
