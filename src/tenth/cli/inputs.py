"""What the commands of one person take in: the person in a folder, and the model that the options choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.console import print_message

if TYPE_CHECKING:
    from tenth.core.types import Person
    from tenth.models.latent_diffusion import LatentDiffusion
    from tenth.sampling.passes.hires import HiresConfig

IDENTITY_SUFFIX = ".safetensors"  # of an identity file


@dataclass(frozen=True)
class ModelOptions:
    """--model, --device, --adapter, --lora and --backend."""

    model: str
    device: str | None
    adapter: Path | None
    lora: Path | None
    backend: str | None = None

    def load(self, *, full_precision: bool, num_images: int = 0, hires: HiresConfig | None = None) -> LatentDiffusion:
        """The model, and a line on stderr where it had to be made to fit into memory. Raises as `load_model` does.

        num_images, hires: what it is to generate, where that is known.
        """
        from tenth.models.memory.planner import DEFAULT_BATCH_SIZE, LoadOptions
        from tenth.models.registry import load_model

        image_size, batch_size = hires.square_side if hires else 0, min(num_images or DEFAULT_BATCH_SIZE, DEFAULT_BATCH_SIZE)
        options = LoadOptions(self.device or "", "", image_size, batch_size, full_precision, self.backend or "")
        return load_model(self.model, adapter=self.adapter, lora=self.lora, options=options, on_message=print_message)


def read_person(directory: Path) -> tuple[Person, list[str]]:
    """The person in a folder, and what to say about photos that are not used or doubtful."""
    from tenth.data.photo_folder import inspect_folder, to_person
    from tenth.data.photo_notes import photo_notes

    verdicts = inspect_folder(directory)
    return to_person(verdicts, directory.resolve().name), photo_notes(verdicts)
