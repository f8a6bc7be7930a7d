"""A model's folder -> the bytes that drawing with it needs, from the files' headers, before any weight is read."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.errors import ModelError
from tenth.narrow import narrows

FILES = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors|ip-adapter.*\.safetensors")
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
LONGEST_HEADER = 100_000_000  # bytes: what the format allows
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "ip-adapter")
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
    unet, vae, vision = (_config(each) for each in (folder / "unet", folder / "vae", encoder))
    folders = {name: encoder if name == "image_encoder" else folder / name for name in PARTS if name != "ip-adapter"}
    parts = {name: part_of(weights_in(each)) for name, each in folders.items() if each.is_dir()}
    return sizes_of(unet, vae, vision, parts | {"ip-adapter": part_of([adapter])})


def sizes_of(unet: Mapping[str, Any], vae: Mapping[str, Any], vision: Mapping[str, Any], parts: Mapping[str, Part]) -> Sizes:
    """The sizes of a model by the configurations of its networks and the counts of its parts."""
    widths, attending = unet["block_out_channels"], unet["down_block_types"]
    gated = [width / 4**level for level, width in enumerate(widths) if "CrossAttn" in attending[level]]
    first, second = (*vae["block_out_channels"], 0)[:2]
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    tokens = (vision.get("image_size", 224) // vision.get("patch_size", 32)) ** 2 + 1
    return Sizes(
        parts=parts,
        pixels=int(unet["sample_size"]) * scale,
        scale=scale,
        unet=10 * widths[0] + 16 * max(gated, default=0),
        vae=max(5 * first, 3 * second),
        vision=17 * tokens * vision.get("hidden_size", 768),
    )


def weights_in(folder: Path) -> list[Path]:
    """The files of one part's weights."""
    return sorted(path for path in folder.iterdir() if FILES.fullmatch(path.name))


def part_of(files: Sequence[Path]) -> Part:
    """The counts of one part's files."""
    matrices = others = largest = 0
    kinds: Counter[str] = Counter()
    for path in files:
        for name, kind, shape in tensors(path):
            count = math.prod(shape)
            kinds[kind] += count
            if narrows(name, shape):
                matrices, largest = matrices + count, max(largest, count)
            else:
                others += count
    return Part(matrices, others, largest, max(kinds, key=lambda kind: kinds[kind], default="F32"))


def tensors(path: Path) -> Iterator[tuple[str, str, list[int]]]:
    """(name, dtype, shape) of each tensor in a safetensors file, from its header alone. Raises ModelError if it is damaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in BITS:
                yield name, entry["dtype"], entry["shape"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise _damaged(path, problem) from problem


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


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError) as problem:
        raise _damaged(path, problem) from problem


def _damaged(path: Path, problem: Exception) -> ModelError:
    return ModelError(f"{path} cannot be read: {problem}", "the file of the model is needed, whole", "Get it again")
