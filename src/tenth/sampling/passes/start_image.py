"""Start from a picture: it is fitted to the model, noise is added, and it is denoised; outside a mask it stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tenth.core.cache import image_hash
from tenth.core.errors import DataError
from tenth.core.types import DiffusionModel, Pixels
from tenth.data.faces.detection import crop_square, find_faces
from tenth.data.photo import open_photo
from tenth.models.trained_resolutions import TrainedResolutions
from tenth.sampling.bounds import SETTING_RANGES
from tenth.sampling.init_latents import InitLatents
from tenth.sampling.passes.hires import native_sizes
from tenth.sampling.passes.img2img import encode_image
from tenth.sampling.passes.masks import MAX_MASK_SIDE, Mask, open_mask
from tenth.sampling.passes.resolutions import Size, nearest_shape
from tenth.sampling.sampler import SamplingBatch

MAX_START_SIDE = MAX_MASK_SIDE  # pixels: longer side of a start image, whose pixels all stay where it has a mask
DEFAULT_STRENGTH = 0.6  # docs/decisions/0010-generate.md: with more the colours of what is anew leave those around a mask


@dataclass(frozen=True, eq=False)
class StartImage:
    """A picture (H, W, 3) that an image starts from instead of noise.

    strength: fraction of the noise, and of the steps, above 0: 0.3 keeps, 0.8 invents; None: 0.6.
    mask: (H, W), 255 where the picture is made anew and 0 where every pixel stays; None: all of it is made anew.
    digest, mask_digest: sha256 of the files, by which PNGs and records name them; "": of the pixels.
    Raises DataError for an impossible strength, or a mask of another size or without any white.
    """

    pixels: Pixels
    strength: float | None = None
    mask: Mask | None = None
    digest: str = ""
    mask_digest: str = ""

    def __post_init__(self) -> None:
        if self.strength is not None and (not SETTING_RANGES["strength"].contains(self.strength) or not self.strength):
            needed = "a number above 0, at most 1, is needed: 0 would change nothing"
            raise DataError(f"the strength {self.strength} with a start image", needed, "Correct it")
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8 or not self.pixels.size:
            found = f"a start image of shape {self.pixels.shape} and type {self.pixels.dtype}"
            raise DataError(found, "(H, W, 3) of uint8 is needed", "Convert it")
        if self.mask is None:
            return
        if self.mask.shape != self.pixels.shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (self.mask.shape, self.pixels.shape)]
            needed = f"the picture has {sizes[1]}, and a mask must have as many"
            raise DataError(f"the mask has {sizes[0]} pixels", needed, "Save the mask at the picture's size")
        if not (self.mask >= 128).any():
            needed = "white is made anew and black stays, so some white is needed"
            raise DataError("the mask is black everywhere", needed, "Paint white what is to be made anew")

    @classmethod
    def open(cls, path: str | Path, strength: float | None = None, mask: str | Path | None = None) -> StartImage:
        """A start image from files. mask: white is made anew, black stays.

        A picture without a mask is reduced to MAX_START_SIDE pixels a side. Raises PhotoError for what is no picture, or larger
        with a mask; DataError as `StartImage`.
        """
        photo = open_photo(Path(path), MAX_START_SIDE, reduce=mask is None)
        if mask is None:
            return cls(photo.pixels, strength, digest=photo.digest)
        grey, mask_digest = open_mask(Path(mask))
        return cls(photo.pixels, strength, grey, photo.digest, mask_digest)

    @property
    def resolved_strength(self) -> float:
        """The strength, or its default."""
        return DEFAULT_STRENGTH if self.strength is None else float(self.strength)

    @cached_property
    def face_squares(self) -> list[tuple[float, float, float]]:
        """Left, top and side of the square around each face, the largest face first."""
        return [crop_square(face) for face in find_faces(self.pixels)]

    @property
    def metadata(self) -> dict[str, Any]:
        """What a PNG and run.json record: no name of a file."""
        start: dict[str, Any] = {"sha256": self.digest or image_hash(self.pixels), "strength": self.resolved_strength}
        if self.mask is not None:
            start["mask_sha256"] = self.mask_digest or image_hash(self.mask)
        return {"start_image": start}

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What start images of one batch have in common."""
        return self.pixels.shape, self.resolved_strength, self.mask is None


@dataclass(frozen=True)
class FittedRegion:
    """The part of a start image that the model sees. box: left, top, width, height, in its pixels. size: of the model's image.

    centered: whether it is the middle for want of a face, on a model of aligned faces.
    """

    box: tuple[int, int, int, int]
    size: Size
    centered: bool = False


def fit_region(model: DiffusionModel, start: StartImage, size: Size | None = None) -> FittedRegion:
    """The largest part of a trained shape, from the middle or around the mask; for aligned faces the square around the face.

    The face is the largest one whose square covers the mask. A picture of the model's own size is taken as it is.
    size: of the model's image; None: the trained one nearest in shape. Raises DataError if the mask reaches beyond the part.
    """
    height, width = start.pixels.shape[:2]
    aligned = model.trained_resolutions is TrainedResolutions.SINGLE_SQUARE
    size = size or nearest_shape(width / height, native_sizes(model), model.native_resolution)
    if (width, height) == (size.width, size.height):
        return FittedRegion((0, 0, width, height), size)

    # Squares around faces, the largest face first.
    bounds = None if start.mask is None else _mask_bounds(start.mask)
    if aligned:
        squares = [_square_inside(square, width, height) for square in start.face_squares]
        if squares:
            box = next((square for square in squares if bounds is None or _covers(square, bounds)), squares[0])
            return FittedRegion(_checked(box, bounds, "the square around the face"), size)

    # The largest part of this shape, in the middle, moved to cover the mask.
    scale = min(width / size.width, height / size.height)
    shape = max(1, round(size.width * scale)), max(1, round(size.height * scale))
    corner = [(side - part) // 2 for side, part in zip((width, height), shape, strict=True)]
    if bounds is not None:
        for axis in (0, 1):
            low, high = bounds[axis] + bounds[axis + 2] - shape[axis], bounds[axis]
            corner[axis] = min(max(corner[axis], low), max(high, 0))
            corner[axis] = min(max(corner[axis], 0), (width, height)[axis] - shape[axis])
    return FittedRegion(_checked((*corner, *shape), bounds, f"the part of the shape {size}"), size, centered=aligned)


Box = tuple[int, int, int, int]  # left, top, width, height


def _mask_bounds(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def _square_inside(square: tuple[float, float, float], width: int, height: int) -> Box:
    """A square in whole pixels, moved and reduced to lie inside the picture."""
    left, top, side = square
    whole = max(1, min(round(side), width, height))
    return min(max(0, round(left)), width - whole), min(max(0, round(top)), height - whole), whole, whole


def _covers(box: Box, inner: Box) -> bool:
    return all(box[axis] <= inner[axis] and inner[axis] + inner[axis + 2] <= box[axis] + box[axis + 2] for axis in (0, 1))


def _checked(box: Box, bounds: Box | None, region: str) -> Box:
    """The box, if it covers the mask."""
    if bounds is None or _covers(box, bounds):
        return box
    texts = [f"{left},{top} to {left + width},{top + height}" for left, top, width, height in (bounds, box)]
    needed = f"the model sees {region}, {texts[1]}, and can make only that anew"
    raise DataError(f"the mask reaches from {texts[0]}", needed, "Paint the mask smaller, or crop the picture around it")


def begin_with(batch: SamplingBatch, starts: Sequence[StartImage], regions: Sequence[FittedRegion]) -> SamplingBatch:
    """The batch, which begins with its start images: B of one `batch_key`, each with its region. One is encoded once."""
    encoded: dict[int, Tensor] = {}
    for start, region in zip(starts, regions, strict=True):
        if id(start) not in encoded:
            encoded[id(start)] = encode_image(batch.model, _fitted(start.pixels, region))  # (1, C, h, w)
    latents = torch.cat([encoded[id(start)] for start in starts])  # (B, C, h, w)
    mask = None
    if starts[0].mask is not None:
        mask = torch.cat([_latent_mask(*each, latents) for each in zip(starts, regions, strict=True)])  # (B, 1, h, w)
    return replace(batch, size=regions[0].size, init=InitLatents(latents, starts[0].resolved_strength, mask))


def _fitted(pixels: Any, region: FittedRegion) -> npt.NDArray[np.float32]:
    """The region of a picture at the model's size, (H, W, 3) in [0, 1]."""
    left, top, width, height = region.box
    box, size = (left, top, left + width, top + height), (region.size.width, region.size.height)
    fitted = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, box)
    return np.asarray(fitted, dtype=np.float32) / np.float32(255)


def _latent_mask(start: StartImage, region: FittedRegion, latents: Tensor) -> Tensor:
    """(1, 1, h, w): 1 where any pixel of the latent's square is to be made anew."""
    left, top, width, height = region.box
    mask = np.zeros((height, width)) if start.mask is None else start.mask[top : top + height, left : left + width]
    painted = torch.from_numpy(mask > 0).float()[None, None]  # (1, 1, H, W)
    return torch.nn.functional.adaptive_max_pool2d(painted, latents.shape[-2:]).to(latents)


def paste_back(start: StartImage, region: FittedRegion, made: Pixels) -> Pixels:
    """The picture at its own size, where the mask is white as the model made it, where it is black to the byte as it was.

    Without a mask what the model made, as it is.
    """
    if start.mask is None:
        return made
    left, top, width, height = region.box
    part = (slice(top, top + height), slice(left, left + width))
    resized = np.asarray(Image.fromarray(made).resize((width, height), Image.Resampling.LANCZOS))
    weight = start.mask[part][..., None] / 255.0
    result = start.pixels.copy()
    result[part] = np.rint(start.pixels[part] * (1 - weight) + resized * weight).astype(np.uint8)
    return result


def start_notes(model: DiffusionModel, start: StartImage) -> list[str]:
    """How the picture is fitted to the model, in sentences for the user."""
    region, (height, width) = fit_region(model, start), start.pixels.shape[:2]
    left, top, fitted_width, fitted_height = region.box
    notes = []
    if region.centered:
        notes.append(
            "no face was found in the start image: its middle is taken, and this model draws faces that fill the image"
        )
    if (fitted_width, fitted_height) != (width, height):
        part = f"{fitted_width}x{fitted_height} pixels from {left},{top} on"
        notes.append(f"of the start image of {width}x{height} the model sees {part}, at {region.size}")
    if start.mask is not None:
        notes.append("white of the mask is made anew, black stays as it is to the last bit")
    return notes
