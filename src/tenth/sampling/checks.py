"""What cannot be drawn, and is refused before anything is: people in regions, and settings that a model does not read."""

from __future__ import annotations

from collections.abc import Sequence

from tenth.core.errors import DataError
from tenth.core.types import DiffusionModel
from tenth.models.trained_resolutions import TrainedResolutions
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage, fit_region
from tenth.sampling.people import PlacedPerson, check_shape


def check_people(
    model: DiffusionModel, people: Sequence[PlacedPerson], start: StartImage | None, hires: HiresConfig | None
) -> None:
    """Raises DataError for people in regions on a model or with options that do not support them."""
    if model.trained_resolutions is TrainedResolutions.SINGLE_SQUARE:
        needed = "it draws one aligned face, which fills the image, and regions would be parts of that face"
        raise DataError(f"people in regions on {model.name.partition('@')[0]}", needed, "Choose a model of Stable Diffusion")
    if hires is not None and hires.face_detailer:
        needed = "it makes one face again, and does not know whose it is"
        raise DataError("the face detailer for people in regions", needed, "Leave it out")
    if start is not None and start.mask is not None:
        needed = "what the model sees of the picture moves with the mask, and regions would not"
        raise DataError("a start image's mask with people in regions", needed, "Leave out the mask")
    size = Size(model.native_resolution, model.native_resolution)
    if start is not None:
        size = fit_region(model, start).size
    size = size if hires is None else hires.size
    check_shape(people, size.width, size.height)
