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

from tenth.core.cache import Array, ArrayCache, image_hash
from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, reason, sha256_of
from tenth.core.types import Photo
from tenth.models.model_folder import (
    ComponentSpec,
    check_finite,
    check_values,
    check_weights_match,
    first_line,
    folder_tensor_infos,
    invalid_model,
    read_config,
    sanitized_folder,
)

BATCH_SIZE = 8  # photos at a time: ViT-H takes some gigabytes
MAX_PIXELS = 4096  # side of an encoded image
VISION_KEYS, TEXT_KEYS = CLIPVisionConfig.__annotations__, CLIPTextConfig.__annotations__
CLIP_CONFIG_KEYS = {
    "text_config": TEXT_KEYS,
    "vision_config": VISION_KEYS,
    "text_config_dict": TEXT_KEYS,
    "vision_config_dict": VISION_KEYS,
}
COMPONENTS = {  # by the table of the configuration file that is the model's own
    "vision_config": ComponentSpec(
        VISION_KEYS, fixed_values={"model_type": CLIPVisionConfig.model_type}, config_table="vision_config"
    ),
    "": ComponentSpec(
        ("projection_dim", "logit_scale_init_value"), fixed_values={"model_type": "clip"}, nested_keys=CLIP_CONFIG_KEYS
    ),
}


def load_clip(model_class: Any, folder: Path, needed: str, **load_options: Any) -> tuple[Any, CLIPImageProcessorPil, str]:
    """A CLIP model of transformers from a folder, frozen; its processor, Pillow's; 16 digits that stand for both.

    needed: for the error. Raises ModelError if the folder holds no such model.
    """
    settings, path = folder / "preprocessor_config.json", folder / "model.safetensors"
    try:
        with sanitized_folder(folder, {"": COMPONENTS[model_class.config_class.base_config_key]}) as safe:
            config = model_class.config_class.from_pretrained(safe)
            check_weights_match(lambda: model_class(config), folder_tensor_infos(folder), folder)
            model = model_class.from_pretrained(safe, local_files_only=True, use_safetensors=True, **load_options)
        check_finite(model, folder)
        processor = _load_processor(settings) if settings.exists() else CLIPImageProcessorPil()
        digest = hashlib.sha256(sha256_of(path).encode())
    except ModelError as problem:
        raise ModelError(problem.found, needed, "Put it there whole") from problem
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{path} {reason(problem)}", needed, "Put it there whole") from problem
    except Exception as problem:  # whatever a library raises of a foreign file
        raise ModelError(f"{folder} cannot be loaded: {first_line(problem)}", needed, "Put it there whole") from problem
    digest.update(processor.to_json_string().encode())
    return model.eval().requires_grad_(False), processor, digest.hexdigest()[:16]


def _load_processor(path: Path) -> CLIPImageProcessorPil:
    """The processor that a file describes, tried on an image. All its settings are kept, for the encoder's name."""
    config = read_config(path)
    check_values(path, config)
    if invalid := [size for size in _image_sizes(config) if not 0 < size <= MAX_PIXELS]:
        raise invalid_model(path, f"resizes or cuts to {invalid[0]} pixels")
    processor = CLIPImageProcessorPil.from_dict(config)
    grey = np.full((20, 30, 3), 100, np.uint8)
    pixels = processor([grey], return_tensors="pt", input_data_format="channels_last").pixel_values
    if pixels.ndim != 4 or not torch.isfinite(pixels).all():
        raise invalid_model(path, "gives no image")
    return processor


def _image_sizes(config: Mapping[str, Any]) -> Iterator[int]:
    for key in ("size", "crop_size"):
        value = config.get(key)
        yield from (each for each in (value.values() if isinstance(value, dict) else [value]) if isinstance(each, int))


class ClipEncoder(nn.Module):
    """The pooled, projected embedding of the whole photo, (K, D) float32. Source: Radford et al. 2021, arXiv:2103.00020.

    folder: a CLIP vision model with projection, `config.json` and `model.safetensors`. dtype: of the weights, whatever the
    file's. cache: for pooled embeddings. patch_tokens: give the last but one hidden state of each patch and of the class token
    instead, (K, T, D), which Plus and Full adapters read: 257 x 1280 for ViT-H/14. The processor is always Pillow's: others
    resize to different pixels. Raises ModelError if the folder holds no such model.

    Encoded is the middle square of each photo, also for Plus-Face and Full-Face. These were trained on cropped faces (their
    authors' wiki, page IP-Adapter-Face), but neither the authors' code (ip_adapter.py) nor diffusers crops, and neither do we:
    by names and shapes, a Plus-Face file is a Plus file, and the margin of a crop could only be guessed. Users give cropped
    photos; the methods' warnings say so.
    """

    crops_faces = False
    dlib_mean: Tensor | None = None

    def __init__(
        self, folder: Path, dtype: torch.dtype = torch.float32, cache: ArrayCache | None = None, *, patch_tokens: bool = False
    ) -> None:
        super().__init__()
        self.model, self.processor, digest = load_clip(
            CLIPVisionModelWithProjection, folder, "a CLIP vision model with projection is needed", dtype=dtype
        )
        config = self.model.config
        if not all(type(side) is int and 0 < side <= MAX_PIXELS for side in (config.image_size, config.patch_size)):
            raise invalid_model(
                folder, f"encodes images of {config.image_size!r:.100} pixels in patches of {config.patch_size!r:.100}"
            )
        self.embedding_dim = int(config.hidden_size if patch_tokens else config.projection_dim)
        self.num_tokens = (config.image_size // config.patch_size) ** 2 + 1 if patch_tokens else 0
        self.name = f"clip-pillow{'-patches' * patch_tokens}@{digest}"
        self.cache = None if patch_tokens else cache
        self._null_embedding: Tensor | None = None

    @torch.no_grad()
    def forward(self, photos: Sequence[Photo]) -> Tensor:
        """(K, D) or (K, T, D), on the CPU wherever the model is."""
        if self.cache is None:
            return self._embeddings(photos)

        def compute(missing: list[int]) -> Iterator[Array]:
            return iter(self._embeddings([photos[index] for index in missing]).numpy())

        namespace = f"{self.name}-{str(self.model.dtype).removeprefix('torch.')}"
        return torch.from_numpy(
            self.cache.get_or_compute_stacked(namespace, [image_hash(photo.pixels) for photo in photos], compute)
        )

    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor:
        """The embeddings: CLIP's are not normalized."""
        embeddings: Tensor = self(photos)
        return embeddings

    def standardize(self, raw: Tensor) -> Tensor:
        """The same, float32."""
        return raw.float()

    def _embeddings(self, photos: Sequence[Photo]) -> Tensor:
        batches = []
        for start in range(0, len(photos), BATCH_SIZE):
            images = [photo.pixels for photo in photos[start : start + BATCH_SIZE]]
            pixels = self.processor(images, return_tensors="pt", input_data_format="channels_last").pixel_values
            batches.append(self._encode(pixels))
        return torch.cat(batches)

    @torch.no_grad()
    def null_embedding(self) -> Tensor:
        """A zero embedding (D,), or the patch tokens of an image of zeros (T, D), as IP-Adapter was trained.

        The zeros are in the model's units, so that the image is of the mean colour. Computed once.
        """
        if not self.num_tokens:
            return torch.zeros(self.embedding_dim)
        if self._null_embedding is None:
            side = self.model.config.image_size
            self._null_embedding = self._encode(torch.zeros(1, 3, side, side))[0]
        return self._null_embedding

    def _encode(self, pixels: Tensor) -> Tensor:
        output = self.model(pixels.to(self.model.device), output_hidden_states=bool(self.num_tokens))
        embeddings: Tensor = output.hidden_states[-2] if self.num_tokens else output.image_embeds
        return embeddings.float().cpu()
