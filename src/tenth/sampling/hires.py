"""Pictures of any size: drawn at a size that the model was trained at, enlarged, and drawn again from little noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import DataError
from tenth.core.types import Pixels
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import BOUNDS, Sampling
from tenth.sampling.face_detailer import face_square, redraw_square
from tenth.sampling.img2img import Floats, Scene, draws_one_square, fitted, parts_of, redraw, run, steps_again, trained_side
from tenth.sampling.resolutions import Plan, Size, about_square, multi_aspect, plan, squares
from tenth.sampling.sampler import OnStep, to_pixels

STRENGTH = 0.3  # of the second pass and of the face pass


@dataclass(frozen=True)
class HighRes:
    """A size for pictures, in pixels, and how they come to it.

    strength: share of the noise, and of the steps, with which they are drawn again: 0.2 keeps, 0.5 invents, 0 enlarges alone;
    None: STRENGTH, but 0 for the pocket model. face_pass: draw the face again at the model's full resolution; None: where that
    enlarges its square at least twice. Raises DataError for what cannot be.
    """

    width: int
    height: int
    strength: float | None = None
    face_pass: bool | None = None

    def __post_init__(self) -> None:
        Size(self.width, self.height)
        if self.strength is not None and not BOUNDS["strength"].hold(self.strength):
            raise DataError(f"the strength {self.strength}", f"{BOUNDS['strength']} is needed", "Correct it")
        if self.face_pass and self.strength == 0:
            raise DataError("a face pass of strength 0", "a face is drawn again with some noise", "Leave out one of the two")

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def side(self) -> int:
        """Of a square of as many pixels."""
        return math.isqrt(self.size.area)

    @property
    def face_strength(self) -> float:
        """Of the face pass; 0: there is none."""
        given = STRENGTH if self.strength is None else self.strength
        return 0.0 if self.face_pass is False else given

    def strength_for(self, model: LatentDiffusion) -> float:
        """Of the second pass. A pocket model knows no detail but that of its own size: see benchmarks/highres.py."""
        if self.strength is not None:
            return self.strength
        return 0.0 if draws_one_square(model) else STRENGTH

    def plan(self, model: LatentDiffusion) -> Plan:
        """The sizes at which a model draws for this one. Raises DataError if size or strength are too large for the model."""
        side, strength = trained_side(model), self.strength_for(model)
        path = plan(self.size, trained_sizes(model), side, again=strength > 0)
        if path.redrawn and draws_one_square(model):  # looked at: docs/log.md, 2026-11-28
            raise DataError(
                f"the strength {strength:g} for a picture of {self.size}",
                f"this model knows no detail but that of {side}x{side}: larger pictures that it draws again crack and melt",
                "Leave the strength out, which enlarges, or choose a model that draws larger",
            )
        return path

    def steps(self, model: LatentDiffusion, sampling: Sampling) -> int:
        """Steps of denoising for each picture; a face pass is counted wherever it may come to it."""
        again = len(self.plan(model).redrawn) * steps_again(sampling.steps, self.strength_for(model))
        return sampling.steps + again + (steps_again(sampling.steps, self.face_strength) if self.face_strength else 0)

    def said(self, model: LatentDiffusion) -> dict[str, Any]:
        """What a record says of it."""
        said = {"size": str(self.size), "passes": self.plan(model).passes, "strength": self.strength_for(model)}
        return said | {"face_pass": self.face_pass, "face_strength": self.face_strength}

    def notes(self, model: LatentDiffusion) -> list[str]:
        """What is done for this size, in sentences."""
        path = self.plan(model)
        return [f"{path}; strength {self.strength_for(model):g}" if path.redrawn else str(path)]

    def face_notes(self, model: LatentDiffusion, names: Sequence[str]) -> list[str]:
        """What was done to faces, in sentences. names: of the pictures whose face was drawn again."""
        side = trained_side(model)
        how = f"its face was drawn again at {side}x{side} and put back; strength {self.face_strength:g}"
        return [f"{name}: {how}" for name in names]


def trained_sizes(model: LatentDiffusion) -> list[Size]:
    """The sizes that the model draws in one pass: the pocket model's square, SDXL's list, those around another's square."""
    pipeline = parts_of(model)
    if draws_one_square(model):
        return squares(trained_side(model))
    several = pipeline.unet.config.addition_embed_type == "text_time"  # it is told the size that it draws
    return (multi_aspect if several else about_square)(trained_side(model))


def draw_sized(scene: Scene, highres: HighRes, on_done: Callable[[int], None]) -> list[tuple[Pixels, bool]]:
    """Each picture (H, W, 3) at its size, and whether its face was drawn again. on_done: told the image-steps done.

    The first pass is drawn as a batch, the others one by one: they are large, and nothing is gained by more at a time.
    """
    path, count = highres.plan(scene.model), len(scene.prompts)
    steps, each = scene.sampling.steps, highres.steps(scene.model, scene.sampling)
    first = run(scene, path.first, lambda step: on_done(count * step))
    finished = []
    for number in range(count):
        done = count * steps + number * (each - steps)
        finished.append(_finished(scene.row(number), first[number], path, highres, _after(done, on_done)))
        on_done(done + each - steps)
    return finished


def _finished(scene: Scene, image: Floats, path: Plan, highres: HighRes, on_step: OnStep) -> tuple[Pixels, bool]:
    strength, done = highres.strength_for(scene.model), 0
    for number, size in enumerate(path.redrawn):
        image = redraw(scene.again("second pass", number), fitted(image, size), strength, _after(done, on_step))
        done += steps_again(scene.sampling.steps, strength)
    image = fitted(image, path.final)
    square = face_square(scene.model, image, highres.face_pass) if highres.face_strength else None
    if square is not None:
        image = redraw_square(scene.again("face pass", 0), image, square, highres.face_strength, _after(done, on_step))
    return to_pixels([image])[0], square is not None


def _after(before: int, on_step: OnStep) -> OnStep:
    return lambda step: on_step(before + step)
