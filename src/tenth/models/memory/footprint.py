"""A model's folder -> the bytes that drawing with it needs, from the files' headers, before any weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.tensor_reading import FLOATS
from tenth.models.memory.half_precision import narrows
from tenth.models.model_folder import MOST_WHOLE, described, read_config, unfit, weights_in

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "ip-adapter")
MOST_BLOCKS = 16  # of one network
ENCODER_BATCH = 8  # photos at a time (encode/clip.py)


@dataclass(frozen=True)
class Part:
    """Counts of numbers in one part of a model. matrices: those that narrow.py keeps in 16 bits. largest: in one tensor."""

    matrices: int = 0
    others: int = 0
    largest: int = 0
    dtype: str = "F32"  # of most of them in the file

    @property
    def count(self) -> int:
        """All of its numbers."""
        return self.matrices + self.others


@dataclass(frozen=True)
class Sizes:
    """What an estimate is made of: the parts, the side of the images in pixels, and the widths that activations grow with."""

    parts: Mapping[str, Part]
    pixels: int
    scale: int = 8  # pixels to a place of the latents, along one side
    unet: float = 0.0  # numbers that the UNet holds at once, for each place
    vae: float = 0.0  # numbers that the autoencoder holds at once, for each pixel
    vision: float = 0.0  # numbers that the image encoder holds at once, for each photo

    @property
    def count(self) -> int:
        """All numbers of all parts."""
        return sum(part.count for part in self.parts.values())

    @property
    def largest(self) -> int:
        """Numbers in the largest matrix or kernel."""
        return max(part.largest for part in self.parts.values())


def read_sizes(folder: Path, encoder: Path, adapter: Path) -> Sizes:
    """The sizes of a model in diffusers' layout, a folder of an image encoder and an adapter's file.

    Raises ModelError for a damaged file.

    Numbers held at once were counted tensor by tensor on the networks of Stable Diffusion 1.5 and SDXL
    (benchmarks/activations.py). UNet: ten times its first width for skip connections and residuals, and sixteen times the
    width of a level with attention for the gated layer, a quarter of it a level down. Autoencoder: at full size
    three maps of its second width or five of its first. Vision: seventeen times its width for each token.
    """
    unet, vae, vision = (read_config(each / "config.json") for each in (folder / "unet", folder / "vae", encoder))
    folders = {name: encoder if name == "image_encoder" else folder / name for name in PARTS if name != "ip-adapter"}
    parts = {name: part_of(weights_in(each)) for name, each in folders.items() if each.is_dir()}
    try:
        return sizes_of(unet, vae, vision, parts | {"ip-adapter": part_of([adapter])})
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as problem:
        raise unfit(folder / "unet/config.json or vae/config.json", f"cannot be read: {problem}") from problem


def sizes_of(unet: Mapping[str, Any], vae: Mapping[str, Any], vision: Mapping[str, Any], parts: Mapping[str, Part]) -> Sizes:
    """The sizes of a model by the configurations of its networks and the counts of its parts."""
    widths, attending = _all_positive(unet["block_out_channels"]), unet["down_block_types"]
    gated = [width / 4**level for level, width in enumerate(widths) if "CrossAttn" in attending[level]]
    narrow = _all_positive(vae["block_out_channels"])
    first, second = (*narrow, 0)[:2]
    scale = 2 ** (len(narrow) - 1)
    usual = {"image_size": 224, "patch_size": 32, "hidden_size": 768}
    side, patch, hidden = _all_positive([vision.get(name, value) for name, value in usual.items()])
    return Sizes(
        parts=parts,
        pixels=_all_positive([unet["sample_size"]])[0] * scale,
        scale=scale,
        unet=10 * widths[0] + 16 * max(gated, default=0),
        vae=max(5 * first, 3 * second),
        vision=17 * ((side // patch) ** 2 + 1) * hidden,
    )


def _all_positive(values: Any) -> list[int]:
    """Raises ValueError unless it is a list of a few whole numbers above zero, as large as a configuration's may be."""
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MOST_BLOCKS:
        raise ValueError(f"{values!r:.100}")
    if odd := [value for value in values if type(value) is not int or not 0 < value <= MOST_WHOLE]:
        raise ValueError(f"{odd[0]!r:.100}")
    return list(values)


def part_of(files: Sequence[Path]) -> Part:
    """The counts of one part's files."""
    matrices = others = largest = 0
    kinds: Counter[str] = Counter()
    for path in files:
        for name, tensor in described(path).items():
            if tensor.dtype not in FLOATS:
                continue
            kinds[tensor.dtype] += tensor.count
            if narrows(name, tensor.shape):
                matrices, largest = matrices + tensor.count, max(largest, tensor.count)
            else:
                others += tensor.count
    return Part(matrices, others, largest, max(kinds, key=lambda kind: kinds[kind], default="F32"))


def activations(sizes: Sizes, images: int, *, pixels: int, tiled: bool, bits: int = 32) -> int:
    """Bytes beside the weights while `images` are drawn with guidance: the most of image encoder, UNet and autoencoder.

    tiled: the autoencoder takes one image at a time, in tiles of half the model's side.
    A layer's weights are laid out anew while it runs, and memory that was freed is not all given back: four times the largest.
    """
    side = sizes.pixels // 2 if tiled else pixels
    unet = 2 * images * (pixels / sizes.scale) ** 2 * sizes.unet
    vae = (1 if tiled else images) * side**2 * sizes.vae + images * 3 * pixels**2
    return round(bits / 8 * (max(unet, vae, ENCODER_BATCH * sizes.vision) + LAYERS * sizes.largest))


LAYERS = 4  # measured on Stable Diffusion 1.5 at 256 and 512 pixels: 440 MB, its largest kernel has 118 MB
