"""Photos and a table of what they show -> the network that reads attributes off faces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.errors import DataError
from tenth.core.rng import StepRNG
from tenth.data.captions.attributes import read_attributes
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, attribute_labels
from tenth.data.faces.crops import FaceCrops, PhotoDataset, load_face_crops, to_minus_one_one
from tenth.evaluation.extractors.face_attributes import FaceAttributeNet, balanced_accuracy, save_face_attributes
from tenth.training.loop import fit
from tenth.training.schedule import TrainingConfig

MIN_POSITIVE_RATE = 0.02  # of a sign's known photos: rarer ones are weighted as if they were so frequent
MAX_SHIFT = 6  # pixels to each side by which a crop may stand aside
P_BLUR = 0.3  # share of pictures that lose their finest detail, as drawn ones lack it


@dataclass(frozen=True)
class FaceAttributesRecipe:
    """What recipes/pocket-face-attributes.toml says. attributes: the table that captions were made of (docs/data.md)."""

    data: PhotoDataset
    attributes: Path
    schedule: TrainingConfig
    stage: str = "face-attributes"


def train_face_attributes(recipe: FaceAttributesRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final/signs.safetensors. Balanced accuracy on validation people.

    Raises DataError if the table knows none of the photos.
    """
    cache = ArrayCache(default_cache_dir())
    faces, validation = (load_face_crops(recipe.data, split, cache) for split in ("train", "validation"))
    labels, validation_labels = (_labels(recipe.attributes, some) for some in (faces, validation))
    class_weights = _class_weights(labels)
    torch.manual_seed(recipe.schedule.seed)
    net = FaceAttributeNet().to(memory_format=torch.channels_last)

    def loss(indices: Tensor, rng: StepRNG) -> Tensor:
        logits = net(augment(to_minus_one_one(faces.crops[indices]), rng)).float()
        targets = labels[indices]
        known = ~targets.isnan()
        targets = targets.nan_to_num()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        weights = torch.where(targets > 0, class_weights[0], class_weights[1]) * known
        return (losses * weights).sum() / weights.sum()

    def accuracy(ema: Mapping[str, Tensor]) -> dict[str, float]:
        ema_net = FaceAttributeNet()
        ema_net.load_state_dict({name.removeprefix("signs."): tensor for name, tensor in ema.items()})
        with torch.no_grad():
            logits = torch.cat([ema_net(to_minus_one_one(batch)) for batch in validation.crops.split(64)])
        return balanced_accuracy(logits, validation_labels)

    def on_checkpoint(images_seen: int, ema: Mapping[str, Tensor]) -> None:
        accuracies = accuracy(ema)
        print(f"{images_seen} images: balanced accuracy {sum(accuracies.values()) / len(accuracies):.3f}", file=sys.stderr)

    ema = fit({"signs": net}, loss, len(faces.entries), recipe.schedule, directory, on_checkpoint)
    weights = {name.removeprefix("signs."): tensor for name, tensor in ema.items()}
    save_face_attributes(weights, accuracy(ema), directory / "final" / "signs.safetensors")


def augment(crops: Tensor, rng: StepRNG) -> Tensor:
    """Crops (B, 3, H, W) in [-1, 1], mirrored, shifted, lighter or darker, and some blurred as drawn pictures are."""
    flipped = (rng.uniform() < 0.5)[:, None, None, None]
    crops = torch.where(flipped, crops.flip(-1), crops)
    shifts = (rng.uniform(2) * 2 - 1) * 2 * MAX_SHIFT / crops.shape[-1]
    transform = torch.eye(2, 3).repeat(len(crops), 1, 1)
    transform[:, :, 2] = shifts
    grid = torch.nn.functional.affine_grid(transform, list(crops.shape), align_corners=False)
    crops = torch.nn.functional.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness = (rng.uniform(1, 1, 1) for _ in range(2))
    crops = crops * (0.7 + 0.6 * contrast) + 0.4 * (brightness - 0.5)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(crops, 2), scale_factor=2.0, mode="bilinear")
    crops = torch.where((rng.uniform() < P_BLUR)[:, None, None, None], blurred, crops).clamp(-1, 1)
    return crops.contiguous(memory_format=torch.channels_last)


def _labels(table: Path, faces: FaceCrops) -> Tensor:
    """(N, S): 1 yes, 0 no, NaN not known."""
    attributes = read_attributes(table)
    values: Mapping[bool | None, float] = {True: 1.0, False: 0.0, None: float("nan")}
    is_known = [row.file in attributes for row in faces.entries]
    if not any(is_known):
        raise DataError(
            f"{table} knows none of {len(is_known)} photos", "the table of these photos is needed", "Check its path"
        )
    attribute_rows = [
        attribute_labels(attributes[row.file]) if row.file in attributes else dict.fromkeys(FACE_ATTRIBUTES)
        for row in faces.entries
    ]
    return torch.tensor([[values[row[sign]] for sign in FACE_ATTRIBUTES] for row in attribute_rows])


def _class_weights(labels: Tensor) -> Tensor:
    """Weights of yes and of no (2, S) under which both count the same for each sign."""
    positive_rate = labels.nanmean(0).nan_to_num(0.5).clamp(MIN_POSITIVE_RATE, 1 - MIN_POSITIVE_RATE)
    return torch.stack([0.5 / positive_rate, 0.5 / (1 - positive_rate)])
