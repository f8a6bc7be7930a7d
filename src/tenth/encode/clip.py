"""Photos -> CLIP image embeddings (K, D), or patch tokens (K, T, D): the image encoder of the published IP-Adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from tenth.data.faces import file_digest
from tenth.encode.store import Array, Store, picture_key
from tenth.errors import ModelError
from tenth.types import Photo

BATCH = 8  # photos at a time: ViT-H takes some gigabytes


def read_clip(kind: Any, folder: Path, needed: str, **loading: Any) -> tuple[Any, CLIPImageProcessorPil, str]:
    """A CLIP model of transformers from a folder, frozen; its processor, Pillow's; 16 digits that stand for both.

    Raises ModelError, which says what is needed, if the folder holds no such model.
    """
    try:
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **loading)
        settings = folder / "preprocessor_config.json"
        processor = CLIPImageProcessorPil.from_pretrained(folder) if settings.is_file() else CLIPImageProcessorPil()
        digest = hashlib.sha256(file_digest(folder / "model.safetensors").encode())
    except (OSError, ValueError, SafetensorError) as problem:
        raise ModelError(f"{folder} cannot be loaded: {problem}", needed, "Put it there whole") from problem
    digest.update(processor.to_json_string().encode())
    return model.eval().requires_grad_(False), processor, digest.hexdigest()[:16]


class ClipEncoder(nn.Module):
    """The pooled, projected embedding of the whole photo, (K, D) float32. Source: Radford et al. 2021, arXiv:2103.00020.

    patches: instead the last hidden state but one of each patch and of the class token, (K, T, D), which Plus and Full adapters
    read: 257 x 1280 of ViT-H/14. folder: a CLIP vision model with projection, `config.json` and `model.safetensors`. The
    processor is the one of Pillow, whatever else is installed: another resizes to other pixels. precision: of the weights,
    whatever the file's. store: where pooled embeddings are kept, if anywhere. Raises ModelError if the folder holds no such
    model.

    What is read is the middle square of the photo as it is given, also for Plus-Face and Full-Face. These were trained on
    cropped faces (their authors' wiki, page IP-Adapter-Face), but neither their code (ip_adapter.py) nor diffusers crops: both
    read the picture that they are given. So do we, and equal them: a Plus-Face file does not differ from a Plus file by a name
    or shape, and the margin of a crop could only be guessed. Photos cropped to the face are the user's to give; the methods'
    notes say so.
    """

    def __init__(
        self, folder: Path, precision: torch.dtype = torch.float32, store: Store | None = None, *, patches: bool = False
    ) -> None:
        super().__init__()
        self.model, self.processor, digest = read_clip(
            CLIPVisionModelWithProjection, folder, "a CLIP vision model with projection is needed", dtype=precision
        )
        config = self.model.config
        self.width = int(config.hidden_size if patches else config.projection_dim)
        self.tokens = (config.image_size // config.patch_size) ** 2 + 1 if patches else 0
        self.name = f"clip-pillow{'-patches' * patches}@{digest}"
        self.store = None if patches else store
        self._nobody: Tensor | None = None

    @torch.no_grad()
    def forward(self, photos: Sequence[Photo]) -> Tensor:
        """(K, D) or (K, T, D), on the CPU wherever the model is."""
        if self.store is None:
            return self._embeddings(photos)

        def compute(missing: list[int]) -> Iterator[Array]:
            return iter(self._embeddings([photos[index] for index in missing]).numpy())

        space = f"{self.name}-{str(self.model.dtype).removeprefix('torch.')}"
        return torch.from_numpy(self.store.remember_all(space, [picture_key(photo.pixels) for photo in photos], compute))

    def _embeddings(self, photos: Sequence[Photo]) -> Tensor:
        rows = []
        for start in range(0, len(photos), BATCH):
            pictures = [photo.pixels for photo in photos[start : start + BATCH]]
            pixels = self.processor(pictures, return_tensors="pt", input_data_format="channels_last").pixel_values
            rows.append(self._read(pixels))
        return torch.cat(rows)

    @torch.no_grad()
    def nobody(self) -> Tensor:
        """What guidance leads away from: a zero embedding (D,), or what the model sees in a picture of zeros (T, D).

        As IP-Adapter was trained; the zeros are in the model's units, so the picture is of the mean colour. Computed once.
        """
        if not self.tokens:
            return torch.zeros(self.width)
        if self._nobody is None:
            side = self.model.config.image_size
            self._nobody = self._read(torch.zeros(1, 3, side, side))[0]
        return self._nobody

    def _read(self, pixels: Tensor) -> Tensor:
        seen = self.model(pixels.to(self.model.device), output_hidden_states=bool(self.tokens))
        found: Tensor = seen.hidden_states[-2] if self.tokens else seen.image_embeds
        return found.float().cpu()
