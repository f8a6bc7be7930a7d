"""Photos -> SigLIP's patch tokens (K, T, D): the image encoder of SD3.5's published IP-Adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from tenth.core.types import Photo
from tenth.models.encoders.clip import BATCH_SIZE, MAX_PIXELS, load_vision_model
from tenth.models.model_folder import ComponentSpec, invalid_model

MODEL_TYPE = "siglip_vision_model"
COMPONENT = ComponentSpec(
    SiglipVisionConfig.__annotations__, fixed_values={"model_type": MODEL_TYPE}, config_table="vision_config"
)


class SiglipEncoder(nn.Module):
    """The last but one hidden state of each patch, (K, T, D) float32. Source: Zhai et al. 2023, arXiv:2303.15343.

    folder: a SigLIP vision model. dtype: of the weights, whatever the file's. The whole photo is resized to a square, as the
    authors' processor does; it is always Pillow's. Raises ModelError if the folder holds no such model.
    """

    crops_faces = False
    dlib_mean: Tensor | None = None

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        needed = "a SigLIP vision model is needed"
        loaded = load_vision_model(SiglipVisionModel, SiglipImageProcessorPil, COMPONENT, folder, needed, dtype=dtype)
        self.model, self.processor, digest = loaded
        side, patch = self.model.config.image_size, self.model.config.patch_size
        if not all(type(each) is int and 0 < each <= MAX_PIXELS for each in (side, patch)):
            raise invalid_model(folder, f"encodes images of {side!r:.100} pixels in patches of {patch!r:.100}")
        self.embedding_dim, self.num_tokens = int(self.model.config.hidden_size), (side // patch) ** 2
        self.processor.size = {"height": side, "width": side}  # whatever a file of another size beside the model says
        self.name = f"siglip-pillow@{digest}"

    @torch.no_grad()
    def forward(self, photos: Sequence[Photo]) -> Tensor:
        """(K, T, D), on the CPU wherever the model is."""
        return torch.cat([self._encode(photos[start : start + BATCH_SIZE]) for start in range(0, len(photos), BATCH_SIZE)])

    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor:
        """The embeddings: SigLIP's patch tokens are not normalized."""
        embeddings: Tensor = self(photos)
        return embeddings

    def standardize(self, raw: Tensor) -> Tensor:
        """The same, float32."""
        return raw.float()

    def null_embedding(self) -> Tensor:
        """Zeros (T, D), as diffusers' pipeline has them for guidance."""
        return torch.zeros(self.num_tokens, self.embedding_dim)

    def _encode(self, photos: Sequence[Photo]) -> Tensor:
        images = [photo.pixels for photo in photos]
        pixels = self.processor(images, return_tensors="pt", input_data_format="channels_last").pixel_values
        output = self.model(pixels.to(self.model.device, self.model.dtype), output_hidden_states=True)
        tokens: Tensor = output.hidden_states[-2]
        return tokens.float().cpu()
