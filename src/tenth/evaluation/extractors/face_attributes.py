"""Face attributes: a small classifier of what a face shows, trained by this project, to score prompts with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, parse_json, reason, short_sha256_of
from tenth.core.files.tensors import read_tensors, tensor_shapes
from tenth.core.files.writing import write_tensors
from tenth.core.types import Pixels
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import to_minus_one_one
from tenth.data.faces.detection import CROP_SIZE

WEIGHTS = Path(__file__).parent / "face_attributes.safetensors"
METADATA_KEY = "tenth"
MIN_BALANCED_ACCURACY = 0.75  # of a reliable attribute, on real photos of people not trained on; 0.5 is chance
CHANNELS = (24, 32, 48, 48, 96, 96, 96, 160, 160)  # after each block; a change of channels halves the resolution


class Block(nn.Module):
    """Depthwise 3 x 3, then 1 x 1, as Howard et al. 2017 (MobileNets, arXiv:1704.04861); a shortcut where shapes allow it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.same = before == after
        self.layers = nn.Sequential(
            nn.Conv2d(before, before, 3, 1 if self.same else 2, 1, groups=before, bias=False),
            nn.GroupNorm(8, before),
            nn.SiLU(),
            nn.Conv2d(before, after, 1, bias=False),
            nn.GroupNorm(8, after),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        y: Tensor = self.layers(x)
        return x + y if self.same else nn.functional.silu(y)


class FaceAttributeNet(nn.Module):
    """Crops (B, 3, 128, 128) in [-1, 1] -> logits (B, S), one for each of FACE_ATTRIBUTES."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, CHANNELS[0], 3, 2, 1)
        self.blocks = nn.Sequential(*(Block(before, after) for before, after in pairwise(CHANNELS)))
        self.leave = nn.Linear(CHANNELS[-1], len(FACE_ATTRIBUTES))

    def forward(self, crops: Tensor) -> Tensor:
        features = nn.functional.silu(self.blocks(self.enter(crops))).mean((2, 3))
        logits: Tensor = self.leave(features)
        return logits


class FaceAttributeClassifier:
    """Images (H, W, 3), framed like crops -> (N, S) logits in FACE_ATTRIBUTES' order, float64. An Extractor.

    accuracy: attribute -> balanced accuracy on real photos of people not trained on. name: "face-attributes@digest".
    Raises ModelError if the file is missing, damaged or of other attributes.
    """

    feature_dim = len(FACE_ATTRIBUTES)

    def __init__(self, path: Path = WEIGHTS) -> None:
        try:
            metadata, weights = read_tensors(path)
            header = parse_json(metadata.get(METADATA_KEY, "null"))
            header = header if isinstance(header, dict) else {}
            if header.get("attributes") != list(FACE_ATTRIBUTES) or not are_fractions(header.get("accuracy")):
                raise UnreadableError("is not of the attributes that this version knows")
            self.net = FaceAttributeNet()
            if tensor_shapes(weights) != tensor_shapes(self.net.state_dict()):
                raise UnreadableError("holds other tensors than the network has")
            self.net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
            self.accuracy: Mapping[str, float] = header["accuracy"]
        except (OSError, UnreadableError) as problem:
            needed = "weights that `tenth train` wrote are needed"
            raise ModelError(f"{path} {reason(problem)}", needed, "Train or install again") from problem
        self.net.eval().requires_grad_(False)
        self.name = f"face-attributes@{short_sha256_of([path])}"

    def __call__(self, images: Sequence[Pixels], /) -> npt.NDArray[np.float64]:
        if not len(images):
            return np.empty((0, self.feature_dim))
        crops = torch.from_numpy(np.stack(list(map(_resize_to_crop, images))))  # (N, 128, 128, 3)
        logits: npt.NDArray[np.float64] = self.net(to_minus_one_one(crops.permute(0, 3, 1, 2))).double().numpy()
        return logits

    @property
    def reliable(self) -> tuple[str, ...]:
        """Attributes that it classifies well enough on real photos to score prompts with."""
        return tuple(name for name in FACE_ATTRIBUTES if self.accuracy.get(name, 0.0) >= MIN_BALANCED_ACCURACY)


@cache
def load_face_attributes() -> FaceAttributeClassifier:
    """The classifier in the package."""
    return FaceAttributeClassifier()


def save_face_attributes(weights: Mapping[str, Tensor], accuracy: Mapping[str, float], path: Path) -> None:
    """Write a net's weights, in half precision, and its accuracy for each attribute; whole or not at all."""
    header = json.dumps({"attributes": FACE_ATTRIBUTES, "accuracy": dict(accuracy)}, sort_keys=True)
    write_tensors(path, {name: tensor.half() for name, tensor in weights.items()}, {METADATA_KEY: header})


def balanced_accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Attribute -> mean of the true positive and the true negative rate, over known labels (not NaN).

    logits, labels: (N, S). Attributes without positives or without negatives are left out.
    """
    accuracies = {}
    for index, attribute in enumerate(FACE_ATTRIBUTES):
        yes, no = (logits[labels[:, index] == value, index] for value in (1.0, 0.0))
        if len(yes) and len(no):
            accuracies[attribute] = (float((yes > 0).float().mean()) + float((no <= 0).float().mean())) / 2
    return accuracies


def are_fractions(accuracy: Any) -> bool:
    """Whether it is what `balanced_accuracy` gives, as a file has it."""
    return isinstance(accuracy, dict) and all(type(share) in (int, float) and 0 <= share <= 1 for share in accuracy.values())


def _resize_to_crop(image: Pixels) -> Pixels:
    if image.shape[:2] == (CROP_SIZE, CROP_SIZE):
        return image
    return np.asarray(Image.fromarray(image).resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR))
