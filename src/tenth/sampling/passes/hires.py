"""Images of any size: generate at a size that the model was trained at, upscale, and denoise again from little noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenth.core.errors import DataError
from tenth.core.types import DEFAULT_HIRES_STRENGTH, DiffusionModel, Pixels
from tenth.models.trained_resolutions import TrainedResolutions
from tenth.sampling.bounds import SETTING_RANGES
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.face_detailer import detail_face, face_crop_box
from tenth.sampling.passes.img2img import img2img, resize_to_cover
from tenth.sampling.passes.padding import resize_and_pad
from tenth.sampling.passes.resolutions import (
    ResolutionPlan,
    Size,
    any_aspect_sizes,
    near_square_sizes,
    plan_resolution,
    sdxl_sizes,
    single_square,
)
from tenth.sampling.sampler import FloatImage, OnStep, SamplingBatch, img2img_steps, sample_float, to_uint8


@dataclass(frozen=True)
class HiresConfig:
    """An image size in pixels, and how it is reached.

    strength: fraction of the noise, and of the steps, of later passes: 0.2 keeps, 0.5 invents, 0 only upscales; None:
    the model's default. face_detailer: whether the face is generated again at the model's full resolution; None: where
    that enlarges its square at least twice. Raises DataError for impossible values.
    """

    width: int
    height: int
    strength: float | None = None
    face_detailer: bool | None = None

    def __post_init__(self) -> None:
        Size(self.width, self.height)
        if self.strength is not None and not SETTING_RANGES["strength"].contains(self.strength):
            raise DataError(f"the strength {self.strength}", f"{SETTING_RANGES['strength']} is needed", "Correct it")
        if self.face_detailer and self.strength == 0:
            raise DataError("the face detailer with strength 0", "a strength above 0 is needed", "Leave out one of the two")

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def square_side(self) -> int:
        """Side, in pixels, of a square of the same area."""
        return math.isqrt(self.size.area)

    @property
    def face_strength(self) -> float:
        """Strength of the face detailer; 0: it is off."""
        strength = DEFAULT_HIRES_STRENGTH if self.strength is None else self.strength
        return 0.0 if self.face_detailer is False else strength

    def strength_for(self, model: DiffusionModel) -> float:
        """Strength of the second pass."""
        return model.default_sampling.hires_strength if self.strength is None else self.strength

    def plan(self, model: DiffusionModel) -> ResolutionPlan:
        """The sizes of the passes for this size. Raises DataError if size or strength are too large for the model."""
        resolution, strength = model.native_resolution, self.strength_for(model)
        sizes, multiple = native_sizes(model), model.size_multiple
        plan = plan_resolution(self.size, sizes, resolution, refine=strength > 0, multiple=multiple)
        if plan.hires_sizes and model.trained_resolutions is TrainedResolutions.SINGLE_SQUARE:  # docs/log.md, 2026-11-28
            needed = f"this model knows no detail but that of {resolution}x{resolution}"
            raise DataError(
                f"the strength {strength:g} for an image of {self.size}",
                f"{needed}: larger images have artifacts after a second pass",
                "Leave the strength out, which enlarges, or choose a model of larger images",
            )
        return plan

    def num_steps(self, model: DiffusionModel, sampling: SamplingConfig) -> int:
        """Denoising steps per image, over all passes; the face detailer's count wherever it may run."""
        steps = sampling.steps or model.default_sampling.steps
        hires_steps = len(self.plan(model).hires_sizes) * img2img_steps(steps, self.strength_for(model))
        face_steps = img2img_steps(steps, self.face_strength) if self.face_strength else 0
        return steps + hires_steps + face_steps

    def metadata(self, model: DiffusionModel) -> dict[str, Any]:
        """The settings as a PNG and run.json record them."""
        record = {"size": str(self.size), "passes": self.plan(model).passes, "strength": self.strength_for(model)}
        return record | {"face_detailed": self.face_detailer, "face_strength": self.face_strength}

    def notes(self, model: DiffusionModel) -> list[str]:
        """How this size is reached, in sentences for the user."""
        plan = self.plan(model)
        return [f"{plan}; strength {self.strength_for(model):g}" if plan.hires_sizes else str(plan)]

    def face_notes(self, model: DiffusionModel, names: Sequence[str]) -> list[str]:
        """What was done to faces, in sentences for the user. names: images whose face was generated again."""
        resolution = model.native_resolution
        text = f"its face was generated again at {resolution}x{resolution} and put back; strength {self.face_strength:g}"
        return [f"{name}: {text}" for name in names]


NATIVE_SIZES = {
    TrainedResolutions.SINGLE_SQUARE: single_square,
    TrainedResolutions.NEAR_SQUARE: near_square_sizes,
    TrainedResolutions.MULTI_ASPECT: sdxl_sizes,
}


def native_sizes(model: DiffusionModel) -> list[Size]:
    """The sizes that the model generates in one pass."""
    if model.trained_resolutions is TrainedResolutions.ANY_ASPECT:
        return any_aspect_sizes(model.native_resolution, model.size_multiple)
    return NATIVE_SIZES[model.trained_resolutions](model.native_resolution)


def generate_at_size(batch: SamplingBatch, hires: HiresConfig, on_step: OnStep | None = None) -> list[tuple[Pixels, bool]]:
    """Each image (H, W, 3) at its size, and whether its face was generated again.

    The first pass runs as a batch, the others image by image: they are large, and batching them would gain nothing.
    """
    plan = hires.plan(batch.model)
    base_images = sample_float(replace(batch, size=plan.base), on_step)
    return [_upscale_and_refine(batch.single(index), image, plan, hires, on_step) for index, image in enumerate(base_images)]


def _upscale_and_refine(
    batch: SamplingBatch, image: FloatImage, plan: ResolutionPlan, hires: HiresConfig, on_step: OnStep | None
) -> tuple[Pixels, bool]:
    # Later passes, each with noise of its own.
    strength, resize = hires.strength_for(batch.model), resize_and_pad if plan.is_padded else resize_to_cover
    for index, size in enumerate(plan.hires_sizes):
        noised = batch.with_new_noise("second pass", index)
        image = img2img(noised, resize(image, size), strength, on_step)

    # The final size, and the face.
    image = resize(image, plan.final)
    crop_box = face_crop_box(batch.model, image, hires.face_detailer) if hires.face_strength else None
    if crop_box is not None:
        noised = batch.with_new_noise("face pass", 0)
        image = detail_face(noised, image, crop_box, hires.face_strength, on_step)
    return to_uint8([image])[0], crop_box is not None
