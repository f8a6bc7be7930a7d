"""Photos -> CLIP image embeddings (K, D): the image encoder of the published IP-Adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from tenth.data.faces import file_digest
from tenth.errors import ModelError
from tenth.types import Photo

BATCH = 8  # photos at a time: ViT-H takes some gigabytes


class ClipEncoder(nn.Module):
    """The pooled, projected embedding of the whole photo, (K, D) float32. Source: Radford et al. 2021, arXiv:2103.00020.

    folder: a CLIP vision model with projection, `config.json` and `model.safetensors`. The processor is the one of Pillow,
    whatever else is installed: another resizes to other pixels. precision: of the weights, whatever the file's.
    Raises ModelError if the folder holds no such model.
    """

    def __init__(self, folder: Path, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        try:
            self.model = CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=precision
            )
            settings = folder / "preprocessor_config.json"
            self.processor = CLIPImageProcessorPil.from_pretrained(folder) if settings.is_file() else CLIPImageProcessorPil()
            digest = hashlib.sha256(file_digest(folder / "model.safetensors").encode())
        except (OSError, ValueError, SafetensorError) as problem:
            raise ModelError(
                f"{folder} cannot be loaded: {problem}", "a CLIP vision model with projection is needed", "Put it there whole"
            ) from problem
        digest.update(self.processor.to_json_string().encode())
        self.model.eval().requires_grad_(False)
        self.width = int(self.model.config.projection_dim)
        self.name = f"clip-pillow@{digest.hexdigest()[:16]}"

    @torch.no_grad()
    def forward(self, photos: Sequence[Photo]) -> Tensor:
        """(K, D), on the CPU wherever the model is."""
        rows = []
        for start in range(0, len(photos), BATCH):
            pictures = [photo.pixels for photo in photos[start : start + BATCH]]
            pixels = self.processor(pictures, return_tensors="pt", input_data_format="channels_last").pixel_values
            rows.append(self.model(pixels.to(self.model.device)).image_embeds.float().cpu())
        return torch.cat(rows)
