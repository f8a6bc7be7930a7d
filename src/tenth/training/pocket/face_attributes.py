"""Photos and a table of what they show -> the network that reads signs off faces (signs.py)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tenth.core.cache import Store, default_store
from tenth.core.errors import DataError
from tenth.core.rng import Draws
from tenth.data.captions.attributes import read_attributes
from tenth.data.captions.prompt_parser import SIGNS, signs_of
from tenth.data.face_crops import Faces, People, load_faces, to_unit
from tenth.evaluation.extractors.face_attributes import SignsNet, balanced_accuracy, save_signs
from tenth.training.loop import fit
from tenth.training.schedule import Schedule

RAREST = 0.02  # of a sign's known photos: rarer ones are weighted as if they were so frequent
SHIFT = 6  # pixels to each side by which a crop may stand aside
HALVED = 0.3  # share of pictures that lose their finest detail, as drawn ones lack it


@dataclass(frozen=True)
class SignsRecipe:
    """What recipes/pocket-signs.toml says. attributes: the table that captions were made of (docs/data.md)."""

    data: People
    attributes: Path
    schedule: Schedule
    stage: str = "signs"


def train_signs(recipe: SignsRecipe, directory: Path) -> None:
    """Faces of training people -> `directory`/final/signs.safetensors. Balanced accuracy on validation people.

    Raises DataError if the table knows none of the photos.
    """
    store = Store(default_store())
    faces, validation = (load_faces(recipe.data, split, store) for split in ("train", "validation"))
    labels, new = (_labels(recipe.attributes, some) for some in (faces, validation))
    weight = _balance(labels)
    torch.manual_seed(recipe.schedule.seed)
    net = SignsNet().to(memory_format=torch.channels_last)

    def loss(indices: Tensor, draws: Draws) -> Tensor:
        logits = net(varied(to_unit(faces.crops[indices]), draws)).float()
        wanted = labels[indices]
        known = ~wanted.isnan()
        wanted = wanted.nan_to_num()
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        shares = torch.where(wanted > 0, weight[0], weight[1]) * known
        return (each * shares).sum() / shares.sum()

    def accuracy(average: Mapping[str, Tensor]) -> dict[str, float]:
        seen = SignsNet()
        seen.load_state_dict({name.removeprefix("signs."): tensor for name, tensor in average.items()})
        with torch.no_grad():
            logits = torch.cat([seen(to_unit(batch)) for batch in validation.crops.split(64)])
        return balanced_accuracy(logits, new)

    def watch(seen: int, average: Mapping[str, Tensor]) -> None:
        found = accuracy(average)
        print(f"{seen} images: balanced accuracy {sum(found.values()) / len(found):.3f}", file=sys.stderr)

    average = fit({"signs": net}, loss, len(faces.rows), recipe.schedule, directory, watch)
    weights = {name.removeprefix("signs."): tensor for name, tensor in average.items()}
    save_signs(weights, accuracy(average), directory / "final" / "signs.safetensors")


def varied(crops: Tensor, draws: Draws) -> Tensor:
    """Crops (B, 3, H, W) in [-1, 1], mirrored, shifted, lighter or darker, and some blurred as drawn pictures are."""
    flipped = (draws.uniform() < 0.5)[:, None, None, None]
    crops = torch.where(flipped, crops.flip(-1), crops)
    shifts = (draws.uniform(2) * 2 - 1) * 2 * SHIFT / crops.shape[-1]
    place = torch.eye(2, 3).repeat(len(crops), 1, 1)
    place[:, :, 2] = shifts
    grid = torch.nn.functional.affine_grid(place, list(crops.shape), align_corners=False)
    crops = torch.nn.functional.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    contrast, light = (draws.uniform(1, 1, 1) for _ in range(2))
    crops = crops * (0.7 + 0.6 * contrast) + 0.4 * (light - 0.5)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(crops, 2), scale_factor=2.0, mode="bilinear")
    crops = torch.where((draws.uniform() < HALVED)[:, None, None, None], blurred, crops).clamp(-1, 1)
    return crops.contiguous(memory_format=torch.channels_last)


def _labels(table: Path, faces: Faces) -> Tensor:
    """(N, S): 1 yes, 0 no, NaN not known."""
    attributes = read_attributes(table)
    values: Mapping[bool | None, float] = {True: 1.0, False: 0.0, None: float("nan")}
    known = [row.file in attributes for row in faces.rows]
    if not any(known):
        raise DataError(f"{table} knows none of {len(known)} photos", "the table of these photos is needed", "Check its path")
    signs = [signs_of(attributes[row.file]) if row.file in attributes else dict.fromkeys(SIGNS) for row in faces.rows]
    return torch.tensor([[values[row[sign]] for sign in SIGNS] for row in signs])


def _balance(labels: Tensor) -> Tensor:
    """Weights of yes and of no (2, S) under which both count the same for each sign."""
    share = labels.nanmean(0).nan_to_num(0.5).clamp(RAREST, 1 - RAREST)
    return torch.stack([0.5 / share, 0.5 / (1 - share)])
