"""Training of the classifier of face attributes, on photos and a table of their attributes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import FilePath, config_dataclass
from tenth.core.rng import StepRNG
from tenth.data.faces.crops import PhotoDataset, load_face_crops, to_minus_one_one
from tenth.evaluation.extractors.face_attributes import FaceAttributeNet, balanced_accuracy, save_face_attributes
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.pocket.attribute_labels import AttributeLabels
from tenth.training.schedule import TrainingConfig
from tenth.training.state import tensors_under

MAX_SHIFT = 6  # pixels, of a crop to each side
P_BLUR = 0.3  # of an image: generated images lack the finest detail


@config_dataclass
class FaceAttributesRecipe:
    """What recipes/pocket-face-attributes.toml says. attributes: the table that captions were made of (docs/data.md)."""

    data: PhotoDataset
    attributes: FilePath
    schedule: TrainingConfig
    stage: Literal["face-attributes"] = "face-attributes"


def train_face_attributes(recipe: FaceAttributesRecipe, directory: Path) -> None:
    """Train, write `directory`/final/face_attributes.safetensors. Raises DataError if the table has none of the photos."""
    # The data, and the network.
    cache = ArrayCache(default_cache_dir())
    faces, validation = (load_face_crops(recipe.data, split, cache) for split in ("train", "validation"))
    labels, validation_labels = (AttributeLabels.read(recipe.attributes, each) for each in (faces, validation))
    torch.manual_seed(recipe.schedule.seed)
    net = FaceAttributeNet().to(memory_format=torch.channels_last)

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        return labels.loss(net(augment(to_minus_one_one(faces.crops[indices]), rng)).float(), indices)

    def accuracy(ema: Mapping[str, Tensor]) -> dict[str, float]:
        ema_net = FaceAttributeNet()
        ema_net.load_state_dict(tensors_under(ema, "attributes"))
        with torch.no_grad():
            logits = torch.cat([ema_net(to_minus_one_one(batch)) for batch in validation.crops.split(64)])
        return balanced_accuracy(logits, validation_labels.values)

    def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> None:
        print(f"{images_seen} images: balanced accuracy {fmean(accuracy(ema).values()):.3f}", file=sys.stderr)

    # The training, and its result.
    ema = fit({"attributes": net}, loss, len(faces.entries), recipe.schedule, directory, on_checkpoint)
    if distributed_state().is_main_process:
        path = directory / "final" / "face_attributes.safetensors"
        save_face_attributes(tensors_under(ema, "attributes"), accuracy(ema), path)


def augment(crops: Tensor, rng: StepRNG) -> Tensor:
    """Crops (B, 3, H, W) in [-1, 1], mirrored, shifted, of other contrast and brightness, and some blurred, at random."""
    # Mirror and shift.
    crops = torch.where((rng.uniform() < 0.5)[:, None, None, None], crops.flip(-1), crops)
    transform = torch.eye(2, 3).repeat(len(crops), 1, 1)
    transform[:, :, 2] = (rng.uniform(2) * 2 - 1) * 2 * MAX_SHIFT / crops.shape[-1]
    grid = F.affine_grid(transform, list(crops.shape), align_corners=False)
    crops = F.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)

    # Contrast, brightness and blur.
    contrast, brightness = rng.uniform(1, 1, 1), rng.uniform(1, 1, 1)
    crops = crops * (0.7 + 0.6 * contrast) + 0.4 * (brightness - 0.5)
    blurred = F.interpolate(F.avg_pool2d(crops, 2), scale_factor=2.0, mode="bilinear")
    crops = torch.where((rng.uniform() < P_BLUR)[:, None, None, None], blurred, crops).clamp(-1, 1)
    return crops.contiguous(memory_format=torch.channels_last)
