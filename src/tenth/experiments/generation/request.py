"""What images are asked for, but not of whom: the same from the library, the command line, the API and PNGs. Light imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from tenth.core.config import SomeItems, config_dataclass, needs, require
from tenth.core.errors import RecipeError
from tenth.sampling.bounds import SETTING_RANGES, check_prompt
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.resolutions import Size, parse_size
from tenth.sampling.prompts.rows import NUM_IMAGES

if TYPE_CHECKING:
    from tenth.experiments.generation.png_settings import PngSettings

DEFAULT_NUM_IMAGES = 4  # of a prompt

NumImages = Annotated[int, needs(str(NUM_IMAGES), NUM_IMAGES.contains)]
Seed = Annotated[int, needs(str(SETTING_RANGES["seed"]), SETTING_RANGES["seed"].contains)]
Strength = Annotated[float, needs(str(SETTING_RANGES["strength"]), SETTING_RANGES["strength"].contains)]


@config_dataclass
class ImageRequest:
    """Images of prompts. As a table (`to_table`, `from_table`) it is what the API takes, and what a job of the server keeps.

    prompts: num_images of each, the first with the seed, the next with the next one. candidates: how many are drawn of each
    prompt, of which the best are kept; keep_all: whether all stay. method: "" for the default. size: such as "512" or
    "512x768", "" for the model's own. image, mask: what the images start from, a path or, on a server, a sha256; strength: how
    much of it is made anew, or without it of the enlarged image. style: by name, "" for none.
    Raises RecipeError for values out of their bounds, and those that do not go together.
    """

    prompts: SomeItems[str]
    num_images: NumImages = DEFAULT_NUM_IMAGES
    candidates: NumImages | None = None
    keep_all: bool = False
    seed: Seed = 0
    method: str = ""
    model: str = "pocket"
    size: str = ""
    strength: Strength | None = None
    face_detailer: bool | None = None
    image: str = ""
    mask: str = ""
    style: str = ""
    sampling: SamplingConfig = SamplingConfig()

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            check_prompt("prompt", prompt)
        _ = self.target_size
        if self.candidates is not None:
            require(self.candidates >= self.num_images, "candidates", self.candidates, f"at least the {self.num_images} kept")
        if self.keep_all and self.candidates is None:
            raise RecipeError("keep_all without candidates", "it keeps what candidates draws", "Give that too")
        if self.mask and not self.image:
            raise RecipeError("a mask without an image", "it is for an image, whose size it has", "Give both")
        if self.mask and self.size:
            needed = "the result of a mask has the picture's own size"
            raise RecipeError(f"a mask and the size {self.size}", needed, "Leave out the size")
        if self.image and self.strength == 0:
            raise RecipeError("a strength of 0 with an image", "it is above 0: 0 would change nothing", "Correct it")

    @property
    def target_size(self) -> Size | None:
        """The size in pixels; None for the model's own. Raises DataError for a text that is no size."""
        return parse_size(self.size) if self.size else None

    @property
    def hires_strength(self) -> float | None:
        """The strength, where it is of an enlarged image."""
        return None if self.image else self.strength

    def check_sized(self) -> None:
        """Raises RecipeError for settings of a size where there is none, nor an image to start from."""
        if not self.size and (self.hires_strength, self.face_detailer) != (None, None):
            needed = "they are for images of a size, or that start from an image"
            raise RecipeError("a strength or the face detailer without a size", needed, "Give a size too")


def inherit(given: Mapping[str, Any], png_settings: PngSettings | None) -> tuple[ImageRequest, dict[str, Any]]:
    """The request of what is given, on what an image says, on the defaults; and what is the image's and no default, by name.

    given: fields of `ImageRequest`, "sampling" a mapping of its fields; None where one is not given. Raises RecipeError.
    """
    known = {name: value for name, value in given.items() if value is not None}
    sampling = {name: value for name, value in known.pop("sampling", {}).items() if value is not None}
    if png_settings is None:
        return ImageRequest(**known, sampling=SamplingConfig(**sampling)), {}

    # What the image says, where nothing is given; its defaults need no word.
    recorded, defaults = vars(png_settings.sampling), vars(SamplingConfig())
    unlike = {name: value for name, value in recorded.items() if value != defaults[name] and name not in sampling}
    own = {"prompts": png_settings.prompt, "seed": png_settings.seed}
    inherited = {name.removesuffix("s"): value for name, value in own.items() if name not in known} | unlike
    settings = {"prompts": (png_settings.prompt,), "seed": png_settings.seed, **_size_settings(known, png_settings)} | known
    return ImageRequest(**settings, sampling=SamplingConfig(**(recorded | sampling))), inherited


def _size_settings(given: Mapping[str, Any], png_settings: PngSettings) -> dict[str, Any]:
    """The size and how the image came to it, unless another is given, or a mask, whose image has one; a start's strength."""
    settings: dict[str, Any] = {}
    hires = png_settings.hires
    if hires and not {"size", "mask"} & given.keys():
        settings = {"size": str(hires.size), "strength": hires.strength, "face_detailer": hires.face_detailer}
    if "image" in given:
        settings["strength"] = png_settings.start.get("strength")
    return settings
