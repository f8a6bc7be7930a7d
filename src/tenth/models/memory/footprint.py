"""Estimate the bytes that a model needs while it draws, from its configurations and the headers of its weight files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.files.tensors import FLOAT_DTYPES
from tenth.models.memory.half_precision import is_castable
from tenth.models.memory.profiles import CPU_PROFILES, GPU_PROFILES, MemoryProfile
from tenth.models.memory.quantized import Bits, is_quantizable, quantized_bytes
from tenth.models.model_folder import MAX_INTEGER, invalid_model, read_config, tensor_infos, weight_files

if TYPE_CHECKING:
    from tenth.models.memory.planner import LoadOptions

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder")
MAX_BLOCKS = 16  # of one network
ENCODER_BATCH = 8  # photos at a time (models/encoders/clip.py)
# A layer's weights are copied while it runs, and freed memory is not all returned. Measured on Stable Diffusion 1.5 at 256 and
# 512 pixels: 440 MB, of which its largest kernel has 118 MB.
WORKSPACE_FACTOR = 4
WEIGHT_BITS: Mapping[str, Bits] = {"float8": 8, "int8": 8, "nf4": 4}  # of the layers that are quantized
BLOCK_NAME = re.compile(r".*?\.\d+\.")


@dataclass(frozen=True)
class WeightCounts:
    """Numbers of weights in one part of a model: castable to 16 bits (half_precision.py), others, in the largest tensor.

    quantizable: of the castable, to 8 or 4 bits (quantized.py). largest_block: of those that share a number in their names.
    """

    castable: int = 0
    others: int = 0
    largest: int = 0
    dtype: str = "F32"  # of most of them in the file
    quantizable: int = 0
    largest_block: int = 0

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
    trained_weights: tuple[str, ...] = ("float32",)
    unet_activations: float = 0.0  # per latent
    vae_activations: float = 0.0  # per pixel
    vision_activations: float = 0.0  # per photo

    @property
    def num_weights(self) -> int:
        """All weights of all parts."""
        return sum(part.total for part in self.parts.values())

    def profiles(self, device: str) -> Sequence[MemoryProfile]:
        """The ways to hold the model on a device."""
        return CPU_PROFILES if device == "cpu" else GPU_PROFILES

    def required_bytes(self, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> int:
        """Free bytes that a profile needs for weights and activations, without what the libraries themselves take."""
        bits = 32 if device == "cpu" or profile.weights == "float32" else 16
        batch_size, image_size = min(options.batch_size, profile.batch_size), options.image_size or self.image_size
        held = 0 if profile.cpu_offload else self.weight_bytes(profile, keep_float32=device == "cpu")
        return held + activation_bytes(self, batch_size, image_size=image_size, vae_tiling=profile.vae_tiling, bits=bits)

    def offloaded_bytes(self, profile: MemoryProfile) -> int:
        """Bytes of weights that are on the CPU while a GPU draws."""
        return self.weight_bytes(profile, keep_float32=False) if profile.cpu_offload else 0

    def weight_bytes(self, profile: MemoryProfile, *, keep_float32: bool = True) -> int:
        """Bytes of weights in memory. keep_float32: autoencoder, embeddings and norms stay in it (half_precision.py)."""
        return sum(component_bytes(name, part, profile, keep_float32) for name, part in self.parts.items())


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
    widths, block_types = positive_integers(unet["block_out_channels"]), unet["down_block_types"]
    gated = [width / 4**level for level, width in enumerate(widths) if "CrossAttn" in block_types[level]]

    # Autoencoder: at full size three maps of its second width, or five of its first.
    vae_widths = positive_integers(vae["block_out_channels"])
    first, second = (*vae_widths, 0)[:2]
    scale = 2 ** (len(vae_widths) - 1)

    # Image encoder: 17 x its width for each token.
    defaults = {"image_size": 224, "patch_size": 32, "hidden_size": 768}
    image_size, patch, hidden = positive_integers([vision.get(name, value) for name, value in defaults.items()])

    return ModelFootprint(
        parts=parts,
        image_size=positive_integers([unet["sample_size"]])[0] * scale,
        vae_scale_factor=scale,
        unet_activations=10 * widths[0] + 16 * max(gated, default=0),
        vae_activations=max(5 * first, 3 * second),
        vision_activations=17 * ((image_size // patch) ** 2 + 1) * hidden,
    )


def positive_integers(values: Any) -> list[int]:
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
    quantizable = sum(info.numel for name, info in infos if is_quantizable(name, info.shape))
    dtypes: Counter[str] = Counter()
    blocks: Counter[str] = Counter()
    for name, info in infos:
        dtypes[info.dtype] += info.numel
        if block := BLOCK_NAME.match(name):
            blocks[block[0]] += info.numel
    (dtype, _), *_ = dtypes.most_common(1) or [("F32", 0)]
    others, largest = dtypes.total() - sum(castable), max(castable, default=0)
    return WeightCounts(sum(castable), others, largest, dtype, quantizable, max(blocks.values(), default=0))


def component_bytes(name: str, part: WeightCounts, profile: MemoryProfile, keep_float32: bool) -> int:
    """Bytes of one part's weights. keep_float32: as of `ModelFootprint.weight_bytes`."""
    mapped, bits = profile.weights == "mapped", WEIGHT_BITS.get(profile.weights)
    if bits is not None and name != "vae":
        rest = 2 * (part.castable - part.quantizable) + (4 if keep_float32 else 2) * part.others
        return quantized_bytes(part.quantizable, bits) + rest
    if profile.weights != "float32" and not keep_float32:
        return 2 * part.total
    if keep_float32 and mapped and part.dtype == "F32":
        return 0
    if profile.weights == "float32" or name == "vae":
        return 4 * part.total
    return (0 if mapped else 2 * part.castable) + 4 * part.others


def activation_bytes(footprint: ModelFootprint, batch_size: int, *, image_size: int, vae_tiling: bool, bits: int = 32) -> int:
    """Bytes beside the weights while images are drawn. vae_tiling: one is decoded at a time, in tiles of half its side."""
    decoded, vae_size = (1, footprint.image_size // 2) if vae_tiling else (batch_size, image_size)
    unet = 2 * batch_size * (image_size / footprint.vae_scale_factor) ** 2 * footprint.unet_activations
    vae = decoded * vae_size**2 * footprint.vae_activations + batch_size * 3 * image_size**2
    vision = ENCODER_BATCH * footprint.vision_activations
    largest = max(part.largest for part in footprint.parts.values())  # matrix or kernel
    return round(bits / 8 * (max(unet, vae, vision) + WORKSPACE_FACTOR * largest))
