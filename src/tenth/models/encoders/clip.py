"""Photos -> CLIP image embeddings (K, D), or patch tokens (K, T, D): the image encoder of the published IP-Adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModelWithProjection

from tenth.core.cache import Array, Store, picture_key
from tenth.core.errors import ModelError
from tenth.core.file_reading import UnreadableError, file_digest, reason
from tenth.core.types import Photo
from tenth.models.model_folder import (
    Part,
    check_finite,
    check_fit,
    check_values,
    described_in,
    read_config,
    short,
    unfit,
    vetted,
)

BATCH = 8  # photos at a time: ViT-H takes some gigabytes
MOST_PIXELS = 4096  # of a side of what is read
VISION, TEXT = CLIPVisionConfig.__annotations__, CLIPTextConfig.__annotations__
BOTH = {"text_config": TEXT, "vision_config": VISION, "text_config_dict": TEXT, "vision_config_dict": VISION}
PARTS = {  # by the table that is a model's configuration, where a file has several
    "vision_config": Part(VISION, fixed={"model_type": CLIPVisionConfig.model_type}, base="vision_config"),
    "": Part(("projection_dim", "logit_scale_init_value"), fixed={"model_type": "clip"}, inner=BOTH),
}


def read_clip(kind: Any, folder: Path, needed: str, **loading: Any) -> tuple[Any, CLIPImageProcessorPil, str]:
    """A CLIP model of transformers from a folder, frozen; its processor, Pillow's; 16 digits that stand for both.

    Raises ModelError, which says what is needed, if the folder holds no such model.
    """
    settings, path = folder / "preprocessor_config.json", folder / "model.safetensors"
    try:
        with vetted(folder, {"": PARTS[kind.config_class.base_config_key]}) as safe:
            config = kind.config_class.from_pretrained(safe)
            check_fit(lambda: kind(config), described_in(folder), folder)
            model = kind.from_pretrained(safe, local_files_only=True, use_safetensors=True, **loading)
        check_finite(model, folder)
        processor = _read_processor(settings) if settings.exists() else CLIPImageProcessorPil()
        digest = hashlib.sha256(file_digest(path).encode())
    except ModelError as problem:
        raise ModelError(problem.found, needed, "Put it there whole") from problem
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{path} {reason(problem)}", needed, "Put it there whole") from problem
    except Exception as problem:  # whatever a library raises of a foreign file
        raise ModelError(f"{folder} cannot be loaded: {short(problem)}", needed, "Put it there whole") from problem
    digest.update(processor.to_json_string().encode())
    return model.eval().requires_grad_(False), processor, digest.hexdigest()[:16]


def _read_processor(path: Path) -> CLIPImageProcessorPil:
    """The processor that a file describes, tried on a picture. All that the file says stays, for it names the processor."""
    said = read_config(path)
    check_values(path, said)
    if odd := [size for size in _sides(said) if not 0 < size <= MOST_PIXELS]:
        raise unfit(path, f"resizes or cuts to {odd[0]} pixels")
    processor = CLIPImageProcessorPil.from_dict(said)
    grey = np.full((20, 30, 3), 100, np.uint8)
    pixels = processor([grey], return_tensors="pt", input_data_format="channels_last").pixel_values
    if pixels.ndim != 4 or not torch.isfinite(pixels).all():
        raise unfit(path, "makes no picture of a picture")
    return processor


def _sides(said: Mapping[str, Any]) -> Iterator[int]:
    for key in ("size", "crop_size"):
        value = said.get(key)
        yield from (each for each in (value.values() if isinstance(value, dict) else [value]) if isinstance(each, int))


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
        if not all(type(side) is int and 0 < side <= MOST_PIXELS for side in (config.image_size, config.patch_size)):
            raise unfit(folder, f"reads pictures of {config.image_size!r:.100} pixels in pieces of {config.patch_size!r:.100}")
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
