"""Pictures of any size: drawn at a size that the model was trained at, enlarged, and drawn again from little noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import DataError
from tenth.core.types import Pixels
from tenth.models.latent_diffusion import DEFAULT_HIRES_STRENGTH, LatentDiffusion, TrainedResolutions
from tenth.sampling.config import SETTING_RANGES, SamplingConfig
from tenth.sampling.face_detailer import detail_face, face_crop_box
from tenth.sampling.img2img import (
    FloatImage,
    SamplingBatch,
    img2img,
    img2img_steps,
    native_resolution,
    resize_to_cover,
    run_pipeline,
)
from tenth.sampling.resolutions import ResolutionPlan, Size, near_square_sizes, plan_resolution, sdxl_sizes, single_square
from tenth.sampling.sampler import OnStep, to_uint8


@dataclass(frozen=True)
class HiresConfig:
    """A size for pictures, in pixels, and how they come to it.

    strength: share of the noise, and of the steps, with which they are drawn again: 0.2 keeps, 0.5 invents, 0 enlarges alone;
    None: the model's default. face_detailer: draw the face again at the model's full resolution; None:
    where that enlarges its square at least twice. Raises DataError for what cannot be.
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
            raise DataError("a face pass of strength 0", "a face is drawn again with some noise", "Leave out one of the two")

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def square_side(self) -> int:
        """Of a square of as many pixels."""
        return math.isqrt(self.size.area)

    @property
    def face_strength(self) -> float:
        """Of the face pass; 0: there is none."""
        strength = DEFAULT_HIRES_STRENGTH if self.strength is None else self.strength
        return 0.0 if self.face_detailer is False else strength

    def strength_for(self, model: LatentDiffusion) -> float:
        """Of the second pass."""
        return model.default_hires_strength if self.strength is None else self.strength

    def plan(self, model: LatentDiffusion) -> ResolutionPlan:
        """The sizes at which a model draws for this one. Raises DataError if size or strength are too large for the model."""
        resolution, strength = native_resolution(model), self.strength_for(model)
        resolution_plan = plan_resolution(self.size, native_sizes(model), resolution, refine=strength > 0)
        single_square = model.trained_resolutions is TrainedResolutions.SINGLE_SQUARE
        if resolution_plan.hires_sizes and single_square:  # looked at: docs/log.md, 2026-11-28
            raise DataError(
                f"the strength {strength:g} for a picture of {self.size}",
                "this model knows no detail but that of "
                f"{resolution}x{resolution}: larger pictures that it draws again crack and melt",
                "Leave the strength out, which enlarges, or choose a model that draws larger",
            )
        return resolution_plan

    def num_steps(self, model: LatentDiffusion, sampling: SamplingConfig) -> int:
        """Steps of denoising for each picture; a face pass is counted wherever it may come to it."""
        hires_steps = len(self.plan(model).hires_sizes) * img2img_steps(sampling.steps, self.strength_for(model))
        return sampling.steps + hires_steps + (img2img_steps(sampling.steps, self.face_strength) if self.face_strength else 0)

    def metadata(self, model: LatentDiffusion) -> dict[str, Any]:
        """What a record says of it."""
        record = {"size": str(self.size), "passes": self.plan(model).passes, "strength": self.strength_for(model)}
        return record | {"face_pass": self.face_detailer, "face_strength": self.face_strength}

    def notes(self, model: LatentDiffusion) -> list[str]:
        """What is done for this size, in sentences."""
        resolution_plan = self.plan(model)
        return [
            f"{resolution_plan}; strength {self.strength_for(model):g}" if resolution_plan.hires_sizes else str(resolution_plan)
        ]

    def face_notes(self, model: LatentDiffusion, names: Sequence[str]) -> list[str]:
        """What was done to faces, in sentences. names: of the pictures whose face was drawn again."""
        resolution = native_resolution(model)
        text = f"its face was drawn again at {resolution}x{resolution} and put back; strength {self.face_strength:g}"
        return [f"{name}: {text}" for name in names]


NATIVE_SIZES = {
    TrainedResolutions.SINGLE_SQUARE: single_square,
    TrainedResolutions.NEAR_SQUARE: near_square_sizes,
    TrainedResolutions.MULTI_ASPECT: sdxl_sizes,
}


def native_sizes(model: LatentDiffusion) -> list[Size]:
    """The sizes that the model generates in one pass."""
    return NATIVE_SIZES[model.trained_resolutions](native_resolution(model))


def generate_at_size(batch: SamplingBatch, hires: HiresConfig, on_done: Callable[[int], None]) -> list[tuple[Pixels, bool]]:
    """Each picture (H, W, 3) at its size, and whether its face was drawn again. on_done: told the image-steps done.

    The first pass is drawn as a batch, the others one by one: they are large, and nothing is gained by more at a time.
    """
    resolution_plan, batch_size = hires.plan(batch.model), len(batch.prompts)
    base_steps, steps_per_image = batch.sampling.steps, hires.num_steps(batch.model, batch.sampling)
    base_images = run_pipeline(batch, resolution_plan.base, lambda step: on_done(batch_size * step))
    finished = []
    for index in range(batch_size):
        done = batch_size * base_steps + index * (steps_per_image - base_steps)
        finished.append(
            _upscale_and_refine(
                batch.single(index), base_images[index], resolution_plan, hires, _offset_progress(done, on_done)
            )
        )
        on_done(done + steps_per_image - base_steps)
    return finished


def _upscale_and_refine(
    batch: SamplingBatch, image: FloatImage, resolution_plan: ResolutionPlan, hires: HiresConfig, on_step: OnStep
) -> tuple[Pixels, bool]:
    strength, done = hires.strength_for(batch.model), 0
    for index, size in enumerate(resolution_plan.hires_sizes):
        image = img2img(
            batch.with_new_noise("second pass", index), resize_to_cover(image, size), strength, _offset_progress(done, on_step)
        )
        done += img2img_steps(batch.sampling.steps, strength)
    image = resize_to_cover(image, resolution_plan.final)
    crop_box = face_crop_box(batch.model, image, hires.face_detailer) if hires.face_strength else None
    if crop_box is not None:
        image = detail_face(
            batch.with_new_noise("face pass", 0), image, crop_box, hires.face_strength, _offset_progress(done, on_step)
        )
    return to_uint8([image])[0], crop_box is not None


def _offset_progress(offset: int, on_step: OnStep) -> OnStep:
    return lambda step: on_step(offset + step)
