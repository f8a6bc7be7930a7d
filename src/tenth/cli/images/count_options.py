"""-n, --candidates and --keep-all of `tenth generate`: how many images of a prompt are drawn, and how many kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tenth.cli.images.candidates import GivenPhotos, KeepBest
    from tenth.core.types import Encoder, Identity, Photo
    from tenth.sampling.prompts.rows import PromptRow


@dataclass(frozen=True)
class CountOptions:
    """The options as they were given. Raises typer.BadParameter for those that do not go together.

    num_images: of a prompt. several_people: whether an image shows several, whom no one figure ranks.
    """

    num_images: int
    candidates: int | None
    keep_all: bool
    several_people: bool = False

    def __post_init__(self) -> None:
        if self.candidates is not None and self.candidates < self.num_images:
            message = f"{self.candidates} are fewer than the {self.num_images} that are kept"
            raise typer.BadParameter(message, param_hint="--candidates")
        if self.candidates and self.several_people:
            raise typer.BadParameter("it ranks images of one person: leave it out with --person", param_hint="--candidates")
        if self.keep_all and self.candidates is None:
            raise typer.BadParameter("it keeps what --candidates draws; give that too", param_hint="--keep-all")

    def check_rows(self, rows: Iterable[PromptRow]) -> None:
        """Raises typer.BadParameter for candidates of rows that say how many images they have."""
        if self.candidates and any(row.num_images for row in rows):
            raise typer.BadParameter("the file's rows say how many images each has", param_hint="--candidates")

    @property
    def drawn(self) -> int:
        """How many images of a prompt are drawn."""
        return self.candidates or self.num_images

    def choose(self, photos: Sequence[Photo], identity: Identity, encoder: Encoder) -> tuple[GivenPhotos, KeepBest | None]:
        """What images are compared with, and how many are kept, None: all. Raises as `GivenPhotos.of` for --candidates."""
        from tenth.cli.images.candidates import GivenPhotos, KeepBest

        given = GivenPhotos.of(photos, identity, encoder, required=self.candidates is not None)
        if self.several_people:
            return GivenPhotos(given.crops), None
        return given, KeepBest(self.candidates, self.num_images, self.keep_all) if self.candidates else None
