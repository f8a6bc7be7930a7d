"""Photos -> CLIP image embeddings (K, D), or patch tokens (K, T, D): the image encoder of the published IP-Adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModelWithProjection

from tenth.core.cache import Array, ArrayCache, image_hash, photo_key
from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, reason, sha256_of
from tenth.core.types import Photo
from tenth.models import model_folder
from tenth.models.model_folder import ComponentSpec, invalid_model

BATCH_SIZE = 8  # photos at a time: ViT-H takes some gigabytes
MAX_PIXELS = 4096  # side of an encoded image
VISION_KEYS, TEXT_KEYS = CLIPVisionConfig.__annotations__, CLIPTextConfig.__annotations__
NESTED_KEYS = {
    f"{name}_config{end}": keys for name, keys in (("text", TEXT_KEYS), ("vision", VISION_KEYS)) for end in ("", "_dict")
}
CLIP_KEYS = ("projection_dim", "logit_scale_init_value")
COMPONENTS = {  # by the table of the configuration file that is the model's own
    "vision_config": ComponentSpec(VISION_KEYS, fixed_values={"model_type": "clip_vision_model"}, config_table="vision_config"),
    "": ComponentSpec(CLIP_KEYS, fixed_values={"model_type": "clip"}, nested_keys=NESTED_KEYS),
}


def load_clip(model_class: Any, folder: Path, needed: str, **load_options: Any) -> tuple[Any, CLIPImageProcessorPil, str]:
    """A frozen CLIP model, Pillow's processor, 16 digits that stand for both. Raises ModelError, with `needed`."""
    spec = COMPONENTS[model_class.config_class.base_config_key]
    return load_vision_model(model_class, CLIPImageProcessorPil, spec, folder, needed, **load_options)


def load_vision_model(
    model_class: Any, processor_class: Any, spec: ComponentSpec, folder: Path, needed: str, **load_options: Any
) -> tuple[Any, Any, str]:
    """A frozen model of transformers, Pillow's processor of its kind, 16 digits that stand for both.

    spec: of its folder. Raises ModelError, with `needed`.
    """
    settings, path = folder / "preprocessor_config.json", folder / "model.safetensors"
    with explained(folder, needed):
        model = load_frozen_model(model_class, spec, folder, **load_options)
        processor = _load_processor(processor_class, settings) if settings.exists() else processor_class()
        digest = hashlib.sha256(sha256_of(path).encode())
    digest.update(processor.to_json_string().encode())
    return model, processor, digest.hexdigest()[:16]


def load_frozen_model(model_class: Any, spec: ComponentSpec, folder: Path, **load_options: Any) -> Any:
    """A frozen model of transformers, after its weights were checked against its configuration. spec: of its folder."""
    with model_folder.sanitized_folder(folder, {"": spec}) as safe:
        config = model_class.config_class.from_pretrained(safe)
        infos = model_folder.folder_tensor_infos(folder)
        model_folder.check_weights_match(lambda: model_class(config), infos, folder)
        model = model_class.from_pretrained(safe, local_files_only=True, use_safetensors=True, **load_options)
    model_folder.check_finite(model, folder)
    return model.eval().requires_grad_(False)


@contextmanager
def explained(folder: Path, needed: str) -> Iterator[None]:
    """Turns whatever is raised of a model's folder into a ModelError, with `needed`."""
    try:
        yield
    except ModelError as problem:
        raise ModelError(problem.found, needed, "Put it there whole") from problem
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{folder / 'model.safetensors'} {reason(problem)}", needed, "Put it there whole") from problem
    except Exception as problem:  # whatever a library raises of a foreign file
        raise ModelError(
            f"{folder} cannot be loaded: {model_folder.first_line(problem)}", needed, "Put it there whole"
        ) from problem


def _load_processor(processor_class: Any, path: Path) -> Any:
    """The processor that a file describes, tried on an image. All its settings are kept, for the encoder's name."""
    config = model_folder.read_config(path)
    model_folder.check_values(path, config)
    for size in (config.get("size"), config.get("crop_size")):
        for side in size.values() if isinstance(size, dict) else [size]:
            if isinstance(side, int) and not 0 < side <= MAX_PIXELS:
                raise invalid_model(path, f"resizes or cuts to {side} pixels")
    processor = processor_class.from_dict(config)
    grey = np.full((20, 30, 3), 100, np.uint8)
    pixels = processor([grey], return_tensors="pt", input_data_format="channels_last").pixel_values
    if pixels.ndim != 4 or not torch.isfinite(pixels).all():
        raise invalid_model(path, "gives no image")
    return processor


class ClipEncoder(nn.Module):
    """The pooled, projected embedding of the whole photo, (K, D) float32. Source: Radford et al. 2021, arXiv:2103.00020.

    folder: a CLIP vision model with projection. dtype: of the weights, whatever the file's. cache: for pooled embeddings.
    patch_tokens: give the last but one hidden state of each patch and of the class token instead, (K, T, D), which Plus and
    Full adapters read: 257 x 1280 for ViT-H/14. The processor is always Pillow's: others resize to different pixels.
    Encoded is the middle square of each photo. Plus-Face and Full-Face were trained on cropped faces, but neither their
    authors' code nor diffusers crops, and the margin could only be guessed: users give cropped photos, as the warnings say.
    Raises ModelError if the folder holds no such model.
    """

    crops_faces = False
    dlib_mean: Tensor | None = None

    def __init__(
        self, folder: Path, dtype: torch.dtype = torch.float32, cache: ArrayCache | None = None, *, patch_tokens: bool = False
    ) -> None:
        super().__init__()
        needed = "a CLIP vision model with projection is needed"
        self.model, self.processor, digest = load_clip(CLIPVisionModelWithProjection, folder, needed, dtype=dtype)
        config = self.model.config
        sides = config.image_size, config.patch_size
        if not all(type(side) is int and 0 < side <= MAX_PIXELS for side in sides):
            raise invalid_model(folder, f"encodes images of {sides[0]!r:.100} pixels in patches of {sides[1]!r:.100}")
        self.embedding_dim = int(config.hidden_size if patch_tokens else config.projection_dim)
        self.num_tokens = (config.image_size // config.patch_size) ** 2 + 1 if patch_tokens else 0
        self.name = f"clip-pillow{'-patches' * patch_tokens}@{digest}"
        self.cache = None if patch_tokens else cache
        self._null_embedding: Tensor | None = None

    @torch.no_grad()
    def forward(self, photos: Sequence[Photo]) -> Tensor:
        """(K, D) or (K, T, D), on the CPU wherever the model is.

        Of an image without a digest nothing is kept: `tenth forget` would not find whose it is.
        """
        if self.cache is None or not all(photo.digest for photo in photos):
            return self._embeddings(photos)

        def compute(missing: list[int]) -> Iterator[Array]:
            return iter(self._embeddings([photos[index] for index in missing]).numpy())

        namespace = f"{self.name}-{str(self.model.dtype).removeprefix('torch.')}"
        keys = [photo_key(photo.digest, image_hash(photo.pixels)) for photo in photos]
        return torch.from_numpy(self.cache.get_or_compute_stacked(namespace, keys, compute))

    def raw_embeddings(self, photos: Sequence[Photo]) -> Tensor:
        """The embeddings: CLIP's are not normalized."""
        embeddings: Tensor = self(photos)
        return embeddings

    def standardize(self, raw: Tensor) -> Tensor:
        """The same, float32."""
        return raw.float()

    def _embeddings(self, photos: Sequence[Photo]) -> Tensor:
        batches = [photos[start : start + BATCH_SIZE] for start in range(0, len(photos), BATCH_SIZE)]
        images = ([photo.pixels for photo in batch] for batch in batches)
        inputs = (self.processor(each, return_tensors="pt", input_data_format="channels_last") for each in images)
        return torch.cat([self._encode(each.pixel_values) for each in inputs])

    @torch.no_grad()
    def null_embedding(self) -> Tensor:
        """Zeros (D,), or the patch tokens of an image of zeros in the model's units (T, D), as IP-Adapter was trained."""
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
