"""--image, --mask and --strength of `tenth generate`, on what an image says of its own start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tenth.sampling.passes.start_image import StartImage


@dataclass(frozen=True)
class StartOptions:
    """The options as they were given. Raises typer.BadParameter for those that do not go together."""

    image: Path | None
    mask: Path | None
    strength: float | None
    has_size: bool

    def __post_init__(self) -> None:
        if self.mask and not self.image:
            raise typer.BadParameter("it is for --image, whose size it has", param_hint="--mask")
        if self.mask and self.has_size:
            raise typer.BadParameter("the result of --mask has the picture's own size: leave out --size", param_hint="--size")
        if self.image and self.strength == 0:
            raise typer.BadParameter("with --image it is above 0: 0 would change nothing", param_hint="--strength")

    @property
    def size_strength(self) -> float | None:
        """The strength, where it is of an enlarged image."""
        return None if self.image else self.strength

    def check_sized(self, face_detailer: bool | None, *, may_have_size: bool) -> None:
        """Raises typer.BadParameter for options of a size where none can be."""
        if not may_have_size and (self.size_strength, face_detailer) != (None, None):
            message = "--strength and --face-detailer are for images of a --size, or --image"
            raise typer.BadParameter(message, param_hint="--size")

    def open(self, recorded: Mapping[str, Any]) -> tuple[StartImage | None, list[str]]:
        """The start image, if one is given, and notes. recorded: what an image whose settings are taken says of its start.

        Raises PhotoError and DataError as `StartImage.open` does.
        """
        from tenth.sampling.passes.start_image import StartImage

        if self.image is None:
            return None, _missing_notes(recorded)
        strength = recorded.get("strength") if self.strength is None else self.strength
        start = StartImage.open(self.image, strength, self.mask)
        notes = []
        for name, key in (("start image", "sha256"), ("mask", "mask_sha256")):
            if recorded and recorded.get(key) != start.metadata["start_image"].get(key):
                notes.append(f"--settings-from had another {name} than this command: the images will be others")
        return start, notes


def _missing_notes(recorded: Mapping[str, Any]) -> list[str]:
    """That the start image of an image whose settings are taken is not given."""
    if not recorded:
        return []
    mask = ", and its mask with --mask" if "mask_sha256" in recorded else ""
    text = f"--settings-from was made from a start image (sha256 {recorded['sha256'][:16]}...), which no PNG holds"
    return [f"{text}: give it again with --image{mask}; without it the images will be others"]


def read_recorded_start(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a PNG's settings say of a start image, {} if there was none. Raises DataError if nobody could have asked for it."""
    from tenth.core.errors import DataError, RecipeError
    from tenth.sampling.bounds import check_setting

    if "start_image" not in metadata:
        return {}
    start = metadata["start_image"]
    texts = [start.get("sha256"), start.get("mask_sha256", "")] if isinstance(start, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"start_image is {start!r:.100}", "its sha256 and strength are needed", "Correct it")
    try:
        check_setting("strength", start.get("strength"))
    except RecipeError as problem:
        raise DataError(problem.found, problem.needed, problem.action) from problem
    return dict(start)
