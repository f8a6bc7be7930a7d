"""DINOv2's features of images, for the Fréchet distance FD-DINOv2: a folder of the user's in the layout of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from tenth.core.errors import ModelError
from tenth.core.files.reading import sha256_of
from tenth.core.types import FeatureArray, Pixels
from tenth.models.encoders.clip import explained, load_frozen_model
from tenth.models.model_folder import ComponentSpec

SHA256 = "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23"  # of facebook/dinov2-large's model.safetensors
INPUT_PIXELS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB
POSITION_OFFSET = 0.1  # patches, of the size to which DINOv2's own code resizes its position embeddings; it moves them a little
BATCH_IMAGES = 8
KEYS = [key for key in Dinov2Config.__annotations__ if not key.startswith("_")]
SPEC = ComponentSpec(KEYS, fixed_values={"model_type": "dinov2"})
NEEDED = "the folder of facebook/dinov2-large is needed: config.json and model.safetensors"


class Dinov2:
    """Images (H, W, 3) -> (N, D), the class token after the last layer normalization: 1024 wide for ViT-L/14. An Extractor.

    The whole image is resized to 224 x 224 by Pillow's bicubic filter, whatever its shape. Source: Stein et al. 2023,
    arXiv:2306.04675, and its code dgm-eval; Oquab et al. 2023, arXiv:2304.07193. name: "dinov2@digest". disclaimer: '' for the
    published weights. Raises ModelError if the folder holds no DINOv2 in the layout of transformers.
    """

    def __init__(self, folder: Path) -> None:
        with explained(folder, NEEDED):
            self.model = load_frozen_model(Dinov2Model, SPEC, folder, dtype=torch.float32)
            digest = sha256_of(folder / "model.safetensors")
        patch = self.model.config.patch_size
        if type(patch) is not int or INPUT_PIXELS % patch or self.model.config.num_channels != 3:
            raise ModelError(f"{folder} takes patches of {patch!r:.100} pixels", NEEDED, "Put it there whole")
        resized = resize_positions(self.model.embeddings.position_embeddings, INPUT_PIXELS // patch)
        self.model.embeddings.position_embeddings = nn.Parameter(resized, requires_grad=False)
        self.feature_dim, self.name = int(self.model.config.hidden_size), f"dinov2@{digest[:16]}"
        self.disclaimer = "" if digest == SHA256 else f"FD-DINOv2 is by other weights than the published ones ({digest[:16]})."

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels], /) -> FeatureArray:
        rows = [np.empty((0, self.feature_dim))]
        for start in range(0, len(images), BATCH_IMAGES):
            batch = torch.stack([preprocess(image) for image in images[start : start + BATCH_IMAGES]])
            rows.append(self.model(batch).pooler_output.double().numpy())
        return np.concatenate(rows)


def preprocess(image: Pixels) -> Tensor:
    """(H, W, 3) uint8 -> (3, 224, 224): resized by Pillow, then from 0 to 1, less the mean, over the deviation."""
    resized = Image.fromarray(image).resize((INPUT_PIXELS, INPUT_PIXELS), Image.Resampling.BICUBIC)
    unit = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    return (unit - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Position embeddings (1, 1 + S^2, D) -> (1, 1 + side^2, D), as DINOv2's own code does: the class token's stays."""
    patches, before = positions[:, 1:], round((positions.shape[1] - 1) ** 0.5)
    if before == side:
        return positions
    grid = patches.unflatten(1, (before, before)).permute(0, 3, 1, 2)  # (1, D, S, S)
    factor = (side + POSITION_OFFSET) / before
    grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", align_corners=False)  # (1, D, side, side)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
