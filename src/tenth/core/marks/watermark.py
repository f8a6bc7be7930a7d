"""An invisible watermark: a mark in the pixels themselves, which is left where metadata is not. Off unless one is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tenth.core.marks.signer import from_environment

if TYPE_CHECKING:
    from tenth.core.types import Pixels

WATERMARK_VARIABLE = "TENTH_WATERMARK"


class Watermark(Protocol):
    """Pixels are (H, W, 3) uint8. The same pixels must give the same ones: a picture is as reproducible as its watermark."""

    def embed(self, pixels: Pixels) -> Pixels:
        """The pixels with the watermark, of the same size."""
        ...

    def detect(self, pixels: Pixels) -> bool:
        """Whether the watermark is in the pixels, also after what is done to pictures: JPEG, another size."""
        ...


def current_watermark() -> Watermark | None:
    """What `$TENTH_WATERMARK` gives, "module:function"; None if it is not set. Raises RecipeError if it gives nothing."""
    watermark: Watermark | None = from_environment(WATERMARK_VARIABLE)
    return watermark
