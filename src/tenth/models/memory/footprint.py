"""Estimate the bytes that a model needs while it draws, from its configurations and the headers of its weight files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.files.tensors import FLOAT_DTYPES
from tenth.models.memory.half_precision import is_castable
from tenth.models.model_folder import MAX_INTEGER, invalid_model, read_config, tensor_infos, weight_files

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder")
MAX_BLOCKS = 16  # of one network
ENCODER_BATCH = 8  # photos at a time (models/encoders/clip.py)
# A layer's weights are copied while it runs, and freed memory is not all returned. Measured on Stable Diffusion 1.5 at 256 and
# 512 pixels: 440 MB, of which its largest kernel has 118 MB.
WORKSPACE_FACTOR = 4


@dataclass(frozen=True)
class WeightCounts:
    """Numbers of weights in one part of a model: castable to 16 bits (half_precision.py), others, in the largest tensor."""

    castable: int = 0
    others: int = 0
    largest: int = 0
    dtype: str = "F32"  # of most of them in the file

    @property
    def total(self) -> int:
        """All of its weights."""
        return self.castable + self.others


@dataclass(frozen=True)
class ModelFootprint:
    """What the estimate depends on. Activations are counts of numbers that are in memory at the same time."""

    parts: Mapping[str, WeightCounts]
    image_size: int  # pixels along one side
    vae_scale_factor: int = 8  # pixels per latent along one side
    unet_activations: float = 0.0  # per latent
    vae_activations: float = 0.0  # per pixel
    vision_activations: float = 0.0  # per photo

    @property
    def num_weights(self) -> int:
        """All weights of all parts."""
        return sum(part.total for part in self.parts.values())


def read_footprint(folder: Path, encoder: Path, adapter: Path) -> ModelFootprint:
    """The footprint of a folder in diffusers' layout, an image encoder's folder and an adapter's file. Raises ModelError."""
    unet, vae, vision = (read_config(each / "config.json") for each in (folder / "unet", folder / "vae", encoder))
    folders = {name: encoder if name == "image_encoder" else folder / name for name in COMPONENTS}
    parts = {name: count_weights(weight_files(path)) for name, path in folders.items() if path.is_dir()}
    try:
        return compute_footprint(unet, vae, vision, parts | {"ip-adapter": count_weights([adapter])})
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as problem:
        raise invalid_model(folder / "unet/config.json or vae/config.json", f"cannot be read: {problem}") from problem


def compute_footprint(
    unet: Mapping[str, Any], vae: Mapping[str, Any], vision: Mapping[str, Any], parts: Mapping[str, WeightCounts]
) -> ModelFootprint:
    """The footprint from the configurations of the networks and the weight counts of the parts.

    Activations were counted tensor by tensor on the networks of Stable Diffusion 1.5 and SDXL (benchmarks/activations.py).
    Raises LookupError, TypeError or ValueError for a configuration that no such network has.
    """
    # UNet: 10 x its first width for skip connections and residuals, and 16 x the width of a level with attention for the gated
    # layer, a quarter of it per level down.
    widths, block_types = _positive_integers(unet["block_out_channels"]), unet["down_block_types"]
    gated = [width / 4**level for level, width in enumerate(widths) if "CrossAttn" in block_types[level]]

    # Autoencoder: at full size three maps of its second width, or five of its first.
    vae_widths = _positive_integers(vae["block_out_channels"])
    first, second = (*vae_widths, 0)[:2]
    scale = 2 ** (len(vae_widths) - 1)

    # Image encoder: 17 x its width for each token.
    defaults = {"image_size": 224, "patch_size": 32, "hidden_size": 768}
    image_size, patch, hidden = _positive_integers([vision.get(name, value) for name, value in defaults.items()])

    return ModelFootprint(
        parts=parts,
        image_size=_positive_integers([unet["sample_size"]])[0] * scale,
        vae_scale_factor=scale,
        unet_activations=10 * widths[0] + 16 * max(gated, default=0),
        vae_activations=max(5 * first, 3 * second),
        vision_activations=17 * ((image_size // patch) ** 2 + 1) * hidden,
    )


def _positive_integers(values: Any) -> list[int]:
    """Raises ValueError unless it is a short list of positive integers of at most 64 bits."""
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MAX_BLOCKS:
        raise ValueError(f"{values!r:.100}")
    if invalid := [value for value in values if type(value) is not int or not 0 < value <= MAX_INTEGER]:
        raise ValueError(f"{invalid[0]!r:.100}")
    return list(values)


def count_weights(files: Sequence[Path]) -> WeightCounts:
    """The weight counts of one part's files. Raises ModelError if one is damaged."""
    infos = [item for path in files for item in tensor_infos(path).items() if item[1].dtype in FLOAT_DTYPES]
    castable = [info.numel for name, info in infos if is_castable(name, info.shape)]
    dtypes: Counter[str] = Counter()
    for _, info in infos:
        dtypes[info.dtype] += info.numel
    (dtype, _), *_ = dtypes.most_common(1) or [("F32", 0)]
    return WeightCounts(sum(castable), dtypes.total() - sum(castable), max(castable, default=0), dtype)


def activation_bytes(footprint: ModelFootprint, batch_size: int, *, image_size: int, vae_tiling: bool, bits: int = 32) -> int:
    """Bytes beside the weights while images are drawn. vae_tiling: one is decoded at a time, in tiles of half its side."""
    decoded, vae_size = (1, footprint.image_size // 2) if vae_tiling else (batch_size, image_size)
    unet = 2 * batch_size * (image_size / footprint.vae_scale_factor) ** 2 * footprint.unet_activations
    vae = decoded * vae_size**2 * footprint.vae_activations + batch_size * 3 * image_size**2
    vision = ENCODER_BATCH * footprint.vision_activations
    largest = max(part.largest for part in footprint.parts.values())  # matrix or kernel
    return round(bits / 8 * (max(unet, vae, vision) + WORKSPACE_FACTOR * largest))
