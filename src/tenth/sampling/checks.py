"""What cannot be drawn, and is refused before anything is: people in regions, and settings that a model does not read."""

from __future__ import annotations

from collections.abc import Sequence

from tenth.core.errors import DataError, RecipeError
from tenth.core.types import DiffusionModel
from tenth.core.wording import shorten
from tenth.models.prompt_weights import split_weights
from tenth.models.trained_resolutions import TrainedResolutions
from tenth.sampling.bounds import DEFAULT_ADAPTER_SCALE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage, fit_region
from tenth.sampling.people import PlacedPerson, check_shape
from tenth.sampling.schedulers import check_flow_scheduler


def check_people(
    model: DiffusionModel, people: Sequence[PlacedPerson], start: StartImage | None, hires: HiresConfig | None
) -> None:
    """Raises DataError for people in regions on a model or with options that do not support them."""
    if model.family is not None:
        needed = "a transformer attends to all of an image at once, and regions are kept apart in a UNet alone"
        raise DataError(f"people in regions on {model.name.partition('@')[0]}", needed, "Choose a model of Stable Diffusion")
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


def check_settings(model: DiffusionModel, sampling: SamplingConfig, prompt: str) -> None:
    """Raises RecipeError for settings, or a prompt, that a model trained by flow matching does not read.

    A prompt that is too long, and a negative one without guidance, are said instead (prompts/vocabulary.py).
    """
    if model.family is None:
        return
    name = model.name.partition("@")[0]
    check_flow_scheduler(sampling.scheduler)
    for text in (prompt, sampling.negative_prompt):
        if any(fragment.weight != 1 for fragment in split_weights(text)):
            needed = "its text encoder is a language model, in which a word cannot count more than another"
            action = r"Leave out the weights, or write \( and \) for brackets that are meant"
            raise RecipeError(f"the prompt {shorten(repr(text))} with weights for {name}", needed, action)
    if model.is_guidance_distilled and model.default_sampling.guidance_scale == 1 and (sampling.guidance_scale or 1) > 1:
        needed = "its guidance is in its weights, and it takes no other"
        raise RecipeError(f"the guidance scale {sampling.guidance_scale:g} for {name}", needed, "Leave it out, or give 1")
    if not model.adapters:
        for setting, default in {"text_guidance_scale": 0.0, "ip_adapter_scale": DEFAULT_ADAPTER_SCALE}.items():
            value = getattr(sampling, setting)
            if value != default:
                needed = "it weighs the prompt and an adapter's person, and this model has no adapter"
                raise RecipeError(f"{setting} {value} for {name}", needed, "Leave it out")
