"""Heads on a frozen UNet that see which face attributes noisy latents show, to teach another UNet to obey its prompts.

The classifier that measures whether prompts are obeyed (evaluation/extractors/face_attributes.py) has no part in it: it sees
pixels, and other features.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import Count, FilePath, config_dataclass, require
from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, parse_json, reason
from tenth.core.files.tensors import read_tensors, tensor_shapes
from tenth.core.files.writing import write_tensors
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import PhotoDataset, load_face_crops
from tenth.evaluation.extractors.face_attributes import MIN_BALANCED_ACCURACY, are_fractions, balanced_accuracy
from tenth.models.denoiser import Conditioning
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.distributed import distributed_state
from tenth.training.frozen_network import weights_digest
from tenth.training.loop import fit
from tenth.training.pocket.attribute_labels import AttributeLabels
from tenth.training.pocket.dataset import compute_latents
from tenth.training.pocket.discriminator import UNetFeatures
from tenth.training.pocket.finetuning.recipe import NUM_TIMESTEPS
from tenth.training.pocket.modules import load_modules
from tenth.training.schedule import TrainingConfig
from tenth.training.state import tensors_under

WIDTH = 64
NUM_GROUPS = 16
MAX_SIDE = 8  # of a feature map that is averaged
QUARTERS = 2  # to a side, each averaged by itself: a hat is above, a tie below
P_DROPOUT = 0.3
METADATA_KEY = "tenth"


@config_dataclass
class AttributeHeadsRecipe:
    """What recipes/pocket-attribute-heads.toml says. model: a whole model's folder, whose UNet finds the features.

    max_timestep: up to which noise is added, less than 1,000.
    """

    data: PhotoDataset
    attributes: FilePath
    model: FilePath
    schedule: TrainingConfig
    max_timestep: Count = 200
    stage: Literal["attribute-heads"] = "attribute-heads"

    def __post_init__(self) -> None:
        require(self.max_timestep < NUM_TIMESTEPS, "max_timestep", self.max_timestep, f"less than {NUM_TIMESTEPS}")


class AttributeHead(nn.Module):
    """A feature map (B, C, h, w) -> (B, QUARTERS * QUARTERS * WIDTH)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(NUM_GROUPS, channels),
            nn.Conv2d(channels, WIDTH, 1),
            nn.GroupNorm(NUM_GROUPS, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GroupNorm(NUM_GROUPS, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        x = self.layers(features.float())
        if x.shape[-1] > MAX_SIDE:
            x = F.avg_pool2d(x, 2)
        return F.adaptive_avg_pool2d(F.silu(x), QUARTERS).flatten(1)


class AttributeHeads(nn.Module):
    """UNet features of images without prompt and person -> logits (B, S), one for each of FACE_ATTRIBUTES.

    channels: of the feature maps. max_timestep: up to which noise they were trained with. accuracy: of each attribute, on real
    photos of people not trained on, after half as much noise; one that these do not show, or all show, is missing.
    """

    def __init__(self, channels: Sequence[int], max_timestep: int, accuracy: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.max_timestep, self.accuracy = max_timestep, dict(accuracy or {})
        self.heads = nn.ModuleList(AttributeHead(each) for each in channels)
        self.dropout = nn.Dropout(P_DROPOUT)
        self.leave = nn.Linear(len(channels) * QUARTERS**2 * WIDTH, len(FACE_ATTRIBUTES))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        found = [head(each) for head, each in zip(self.heads, features, strict=True)]
        logits: Tensor = self.leave(self.dropout(torch.cat(found, 1)))
        return logits.float()

    @property
    def reliable(self) -> tuple[str, ...]:
        """Attributes that are told well enough to teach by."""
        return tuple(name for name in FACE_ATTRIBUTES if self.accuracy.get(name, 0.0) >= MIN_BALANCED_ACCURACY)


def train_attribute_heads(recipe: AttributeHeadsRecipe, directory: Path) -> None:
    """Train, write `directory`/final/attribute_heads.safetensors. Raises DataError if the table has none of the photos."""
    # The data, the frozen UNet, and the heads.
    cache = ArrayCache(default_cache_dir())
    faces, validation = (load_face_crops(recipe.data, split, cache) for split in ("train", "validation"))
    labels, validation_labels = (AttributeLabels.read(recipe.attributes, each) for each in (faces, validation))
    model, autoencoder, encoder = load_modules(recipe.model)
    latents, validation_latents = (compute_latents(each, autoencoder, cache) for each in (faces, validation))
    unet_features = UNetFeatures(model.unet)
    with torch.no_grad():
        no_prompt = PromptEmbeddings(model.text_encoder(model.tokenize([""])).last_hidden_state)
    torch.manual_seed(recipe.schedule.seed)
    heads = AttributeHeads(unet_features.channels, recipe.max_timestep)

    @torch.no_grad()
    def features(of: Tensor, noise: Tensor, timesteps: Tensor) -> list[Tensor]:
        nobody = Conditioning(
            no_prompt[torch.zeros(len(of), dtype=torch.long)], of.new_zeros(len(of), 1, encoder.embedding_dim)
        )
        return unet_features(model.scheduler.add_noise(of, noise, timesteps), timesteps, nobody)

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        mirrored, timesteps = rng.integers(2), rng.integers(recipe.max_timestep)
        found = features(latents[indices, mirrored], rng.normal(*latents.shape[2:]), timesteps)
        return labels.loss(heads(found), indices)

    def accuracy(ema: Mapping[str, Tensor]) -> dict[str, float]:
        ema_heads = AttributeHeads(unet_features.channels, recipe.max_timestep).eval()
        ema_heads.load_state_dict(tensors_under(ema, "heads"))
        logits = []
        with torch.no_grad():
            for batch in validation_latents[:, 0].split(64):
                noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
                logits.append(ema_heads(features(batch, noise, torch.full((len(batch),), recipe.max_timestep // 2))))
        return balanced_accuracy(torch.cat(logits), validation_labels.values)

    def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> None:
        print(f"{images_seen} images: balanced accuracy {fmean(accuracy(ema).values()):.3f}", file=sys.stderr)

    # The training, and its result.
    ema = fit({"heads": heads}, loss, len(faces.entries), recipe.schedule, directory, on_checkpoint)
    if distributed_state().is_main_process:
        trained = AttributeHeads(unet_features.channels, recipe.max_timestep, accuracy(ema))
        trained.load_state_dict(tensors_under(ema, "heads"))
        save_attribute_heads(trained, unet_features, directory / "final" / "attribute_heads.safetensors")


def save_attribute_heads(heads: AttributeHeads, unet_features: UNetFeatures, path: Path) -> None:
    """Write heads that were trained on these features; whole or not at all."""
    header = {
        "unet": weights_digest(unet_features.unet),
        "attributes": FACE_ATTRIBUTES,
        "max_timestep": heads.max_timestep,
        "accuracy": heads.accuracy,
    }
    write_tensors(path, heads.state_dict(), {METADATA_KEY: json.dumps(header, sort_keys=True)})


def load_attribute_heads(path: Path, unet_features: UNetFeatures) -> AttributeHeads:
    """The heads that a training wrote, frozen. Raises ModelError if the file is damaged or was trained on another UNet."""
    try:
        metadata, weights = read_tensors(path)
        header = parse_json(metadata.get(METADATA_KEY, "null"))
        header = header if isinstance(header, dict) else {}
        if header.get("attributes") != list(FACE_ATTRIBUTES) or not are_fractions(header.get("accuracy")):
            raise UnreadableError("is not of heads for the attributes that this version knows")
        if type(header.get("max_timestep")) is not int or not 0 < header["max_timestep"] < NUM_TIMESTEPS:
            raise UnreadableError("does not say up to which noise the heads see")
        heads = AttributeHeads(unet_features.channels, header["max_timestep"], header["accuracy"])
        if header.get("unet") != weights_digest(unet_features.unet):
            raise UnreadableError("was trained on the features of another UNet")
        if tensor_shapes(weights) != tensor_shapes(heads.state_dict()):
            raise UnreadableError("holds other tensors than the heads have")
    except (OSError, UnreadableError) as problem:
        needed = "heads that `tenth train` trained on the UNet that the discriminator reads are needed"
        raise ModelError(
            f"{path} {reason(problem)}", needed, "Train recipes/pocket-attribute-heads.toml on that model"
        ) from problem
    heads.load_state_dict(weights)
    return heads.eval().requires_grad_(False)


def requested_loss(logits: Tensor, requested: Tensor) -> Tensor:
    """Cross-entropy of what prompts ask for, summed over attributes. (B, S), (B, S) with NaN where nothing is asked -> (B,)."""
    losses = F.binary_cross_entropy_with_logits(logits, requested.nan_to_num(), reduction="none")
    return (losses * ~requested.isnan()).sum(1)
