"""A model's folder -> the bytes that drawing with it needs, from the files' headers, before any weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.files.tensors import FLOAT_DTYPES
from tenth.models.memory.half_precision import is_castable
from tenth.models.model_folder import MAX_INTEGER, invalid_model, read_config, tensor_infos, weight_files

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "ip-adapter")
MAX_BLOCKS = 16  # of one network
ENCODER_BATCH = 8  # photos at a time (encode/clip.py)


@dataclass(frozen=True)
class WeightCounts:
    """Counts of numbers in one part of a model. castable: those that narrow.py keeps in 16 bits. largest: in one tensor."""

    castable: int = 0
    others: int = 0
    largest: int = 0
    dtype: str = "F32"  # of most of them in the file

    @property
    def total(self) -> int:
        """All of its numbers."""
        return self.castable + self.others


@dataclass(frozen=True)
class ModelFootprint:
    """What an estimate is made of: the parts, the side of the images in pixels, and the widths that activations grow with."""

    parts: Mapping[str, WeightCounts]
    image_size: int
    vae_scale_factor: int = 8  # pixels to a place of the latents, along one side
    unet_activations: float = 0.0  # numbers that the UNet holds at once, for each place
    vae_activations: float = 0.0  # numbers that the autoencoder holds at once, for each pixel
    vision_activations: float = 0.0  # numbers that the image encoder holds at once, for each photo

    @property
    def num_weights(self) -> int:
        """All numbers of all parts."""
        return sum(part.total for part in self.parts.values())

    @property
    def largest(self) -> int:
        """Numbers in the largest matrix or kernel."""
        return max(part.largest for part in self.parts.values())


def read_footprint(folder: Path, encoder: Path, adapter: Path) -> ModelFootprint:
    """The sizes of a model in diffusers' layout, a folder of an image encoder and an adapter's file.

    Raises ModelError for a damaged file.

    Numbers held at once were counted tensor by tensor on the networks of Stable Diffusion 1.5 and SDXL
    (benchmarks/activations.py). UNet: ten times its first width for skip connections and residuals, and sixteen times the
    width of a level with attention for the gated layer, a quarter of it a level down. Autoencoder: at full size
    three maps of its second width or five of its first. Vision: seventeen times its width for each token.
    """
    unet, vae, vision = (read_config(each / "config.json") for each in (folder / "unet", folder / "vae", encoder))
    folders = {name: encoder if name == "image_encoder" else folder / name for name in COMPONENTS if name != "ip-adapter"}
    parts = {name: count_weights(weight_files(each)) for name, each in folders.items() if each.is_dir()}
    try:
        return compute_footprint(unet, vae, vision, parts | {"ip-adapter": count_weights([adapter])})
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as problem:
        raise invalid_model(folder / "unet/config.json or vae/config.json", f"cannot be read: {problem}") from problem


def compute_footprint(
    unet: Mapping[str, Any], vae: Mapping[str, Any], vision: Mapping[str, Any], parts: Mapping[str, WeightCounts]
) -> ModelFootprint:
    """The sizes of a model by the configurations of its networks and the counts of its parts."""
    widths, block_types = _all_positive(unet["block_out_channels"]), unet["down_block_types"]
    gated = [width / 4**level for level, width in enumerate(widths) if "CrossAttn" in block_types[level]]
    vae_widths = _all_positive(vae["block_out_channels"])
    first, second = (*vae_widths, 0)[:2]
    scale = 2 ** (len(vae_widths) - 1)
    defaults = {"image_size": 224, "patch_size": 32, "hidden_size": 768}
    image_size, patch, hidden = _all_positive([vision.get(name, value) for name, value in defaults.items()])
    return ModelFootprint(
        parts=parts,
        image_size=_all_positive([unet["sample_size"]])[0] * scale,
        vae_scale_factor=scale,
        unet_activations=10 * widths[0] + 16 * max(gated, default=0),
        vae_activations=max(5 * first, 3 * second),
        vision_activations=17 * ((image_size // patch) ** 2 + 1) * hidden,
    )


def _all_positive(values: Any) -> list[int]:
    """Raises ValueError unless it is a list of a few whole numbers above zero, as large as a configuration's may be."""
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MAX_BLOCKS:
        raise ValueError(f"{values!r:.100}")
    if invalid := [value for value in values if type(value) is not int or not 0 < value <= MAX_INTEGER]:
        raise ValueError(f"{invalid[0]!r:.100}")
    return list(values)


def count_weights(files: Sequence[Path]) -> WeightCounts:
    """The counts of one part's files."""
    matrices = others = largest = 0
    dtypes: Counter[str] = Counter()
    for path in files:
        for name, tensor in tensor_infos(path).items():
            if tensor.dtype not in FLOAT_DTYPES:
                continue
            dtypes[tensor.dtype] += tensor.numel
            if is_castable(name, tensor.shape):
                matrices, largest = matrices + tensor.numel, max(largest, tensor.numel)
            else:
                others += tensor.numel
    return WeightCounts(matrices, others, largest, max(dtypes, key=lambda kind: dtypes[kind], default="F32"))


def activation_bytes(footprint: ModelFootprint, batch_size: int, *, image_size: int, vae_tiling: bool, bits: int = 32) -> int:
    """Bytes beside the weights while `batch_size` are drawn with guidance: the most of image encoder, UNet and autoencoder.

    vae_tiling: the autoencoder takes one image at a time, in tiles of half the model's side.
    A layer's weights are laid out anew while it runs, and memory that was freed is not all given back: four times the largest.
    """
    vae_size = footprint.image_size // 2 if vae_tiling else image_size
    unet = 2 * batch_size * (image_size / footprint.vae_scale_factor) ** 2 * footprint.unet_activations
    vae = (1 if vae_tiling else batch_size) * vae_size**2 * footprint.vae_activations + batch_size * 3 * image_size**2
    return round(
        bits / 8 * (max(unet, vae, ENCODER_BATCH * footprint.vision_activations) + WORKSPACE_FACTOR * footprint.largest)
    )


WORKSPACE_FACTOR = 4  # measured on Stable Diffusion 1.5 at 256 and 512 pixels: 440 MB, its largest kernel has 118 MB
