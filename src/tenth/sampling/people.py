"""Several people in one image: where each of them is, and what the model is conditioned on for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tenth.core.cache import image_hash
from tenth.core.errors import DataError, IdentityError
from tenth.core.types import Identity, Photo
from tenth.models.adapters.regional_attention import RegionMasks
from tenth.sampling.passes.masks import Mask, open_mask

SIDES = {"left": (0, 0, 0.5, 1), "right": (0.5, 0, 1, 1), "top": (0, 0, 1, 0.5), "bottom": (0, 0.5, 1, 1)}
MIN_SIDE = 0.05  # of a region, a fraction of the image's: less is smaller than a face that a model draws
MAX_SHAPE_RATIO = 1.05  # between the shape of a mask and that of the image: as much as is cropped without a word
REGION_FORMS = "left, right, top, bottom, four fractions such as 0,0,0.5,1 (left, top, right, bottom), or a mask's file"


@dataclass(frozen=True, eq=False)
class Region:
    """The part of an image that a person is in.

    box: left, top, right, bottom, fractions of the image. mask: (H, W), 255 the person's and 0 not, instead of a box.
    digest: sha256 of the mask's file, by which PNGs and records name it; "": of its pixels.
    Raises DataError for a box that is none or too small for a face, or a mask without any white.
    """

    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    mask: Mask | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):  # also what is not a number
            needed = "left, top, right and bottom are needed, from 0 to 1, left below right and top below bottom"
            raise DataError(f"the region {_numbers(self.box)}", needed, "Correct it")
        if min(right - left, bottom - top) < MIN_SIDE:
            needed = f"a region has at least {MIN_SIDE:g} of the image's width and height"
            raise DataError(f"the region {_numbers(self.box)}", needed, "Make it larger")
        if self.mask is not None and not (self.mask >= 128).any():
            raise DataError("a person's mask is black everywhere", "white is where the person is", "Paint some of it white")

    @classmethod
    def parse(cls, text: str) -> Region:
        """A region from its name, four fractions, or a mask's file. Raises DataError, PhotoError for a file of no picture."""
        if text in SIDES:
            return cls(SIDES[text])
        numbers = text.split(",")
        fractions = all(map(_is_number, numbers))
        if len(numbers) == 4 and fractions:
            left, top, right, bottom = map(float, numbers)
            return cls((left, top, right, bottom))
        if fractions or not Path(text).suffix:
            raise DataError(f"the region {text!r:.100}", f"{REGION_FORMS} is needed", "Correct it")
        return cls.open(text)

    @classmethod
    def open(cls, path: str | Path) -> Region:
        """The white of a mask's file. Raises PhotoError for what is no picture, DataError for a black one."""
        mask, digest = open_mask(Path(path))
        return cls(mask=mask, digest=digest)

    def coverage(self, height: int, width: int) -> Tensor:
        """The share of each cell of a grid over the image that is the person's: (height, width) float32, exactly 0 outside."""
        if self.mask is not None:
            painted = torch.from_numpy(self.mask).float()[None] / 255  # (1, H, W)
            return functional.adaptive_avg_pool2d(painted, (height, width))[0]
        left, top, right, bottom = self.box
        rows, columns = _covered(top, bottom, height), _covered(left, right, width)
        return torch.from_numpy(np.outer(rows, columns).astype(np.float32))

    @property
    def metadata(self) -> dict[str, Any]:
        """What a PNG and run.json record: no name of a file."""
        if self.mask is not None:
            return {"mask_sha256": self.digest or image_hash(self.mask)}
        return {"box": [float(number) for number in self.box]}


@dataclass(frozen=True, eq=False)
class PlacedPerson:
    """A person and the part of the image that the person is in.

    photos: those given, by whose faces the person is recognized in the image; () where they are not at hand.
    Raises IdentityError for an identity that is more than image embeddings: weights act everywhere in an image.
    """

    identity: Identity
    region: Region
    photos: tuple[Photo, ...] = ()

    def __post_init__(self) -> None:
        if self.identity.embeddings is None or self.identity.weights:
            found = f"the method {self.identity.method} for a person in a region"
            has = "photos in context" if self.identity.context else "learnt weights"
            needed = f"it has {has}, which act everywhere in an image; only an adapter's tokens can be kept in a region"
            raise IdentityError(found, needed, "Choose a method of ip-adapter's")


def combine_people(people: Sequence[PlacedPerson]) -> Identity:
    """One identity with the rows of all people, in their order. Raises IdentityError for people of different adapters."""
    identities = [person.identity for person in people]
    first = identities[0]
    made_by = {(each.model, each.encoder, each.adapter) for each in identities}
    if len(made_by) > 1:
        found = f"people of {len(made_by)} models or adapters in one image"
        names = ", ".join(sorted({each.adapter for each in identities}))
        raise IdentityError(found, f"one adapter is in the model at a time ({names})", "Make them again by one method")
    weights: tuple[float, ...] = ()
    if any(each.photo_weights for each in identities):
        weights = sum((each.photo_weights or (1.0,) * len(each.photos) for each in identities), ())
    return replace(
        first,
        method=", ".join(dict.fromkeys(each.method for each in identities)),
        embeddings=torch.cat([each.embeddings for each in identities if each.embeddings is not None]),
        photos=sum((each.photos for each in identities), ()),
        photo_weights=weights,
    )


def people_metadata(people: Sequence[PlacedPerson]) -> dict[str, Any]:
    """What a PNG and run.json record of where people are: {} without any."""
    return {"people": [person.region.metadata for person in people]} if people else {}


@dataclass(frozen=True, eq=False)
class BatchRegions:
    """The regions of P people in each of B images. num_rows: (P,), of the identity's rows, how many are each person's."""

    num_rows: tuple[int, ...]
    images: tuple[tuple[Region, ...], ...]

    @classmethod
    def of(cls, images: Sequence[Sequence[PlacedPerson]]) -> BatchRegions | None:
        """Of images that can share a batch. None where nobody is placed."""
        if not images[0]:
            return None
        return cls(num_rows(images[0]), tuple(tuple(person.region for person in people) for people in images))

    def select(self, selected: slice) -> BatchRegions:
        """Those of some images of the batch."""
        return replace(self, images=self.images[selected])

    def masks(self, height: int, width: int, device: torch.device) -> RegionMasks:
        """For latents of a height and width. Where people overlap, their weights are divided by their sum, so that it is 1."""
        covered = torch.stack([torch.stack([region.coverage(height, width) for region in image]) for image in self.images])
        shared = covered / covered.sum(1, keepdim=True).clamp(min=1)  # (B, P, h, w)
        return RegionMasks.of_latents(self.num_rows, shared.to(device))


def num_rows(people: Sequence[PlacedPerson]) -> tuple[int, ...]:
    """How many rows of embeddings each person has."""
    return tuple(len(person.identity.embeddings) for person in people if person.identity.embeddings is not None)


def check_shape(people: Sequence[PlacedPerson], width: int, height: int) -> None:
    """Raises DataError for a mask of another shape than the image, in which it would be stretched."""
    for person in people:
        if person.region.mask is not None:
            rows, columns = person.region.mask.shape
            ratio = columns * height / (rows * width)
            if not 1 / MAX_SHAPE_RATIO <= ratio <= MAX_SHAPE_RATIO:
                needed = f"the images have {width}x{height}, and a mask needs that shape, at any size"
                raise DataError(
                    f"a person's mask has {columns}x{rows} pixels", needed, "Save it in that shape, or choose a --size"
                )


def _covered(low: float, high: float, count: int) -> npt.NDArray[np.float64]:
    """The share of each of `count` equal parts of [0, 1] that lies between two numbers, rounded, so that 0.3 has no dust."""
    starts = np.arange(count)
    shares: npt.NDArray[np.float64] = np.minimum(high * count, starts + 1) - np.maximum(low * count, starts)
    return shares.clip(0, 1).round(9)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
