"""What the commands of one person take in: the person in a folder, and the model that the options choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.cli.person.photo_weights import match_weights
from tenth.core.console import print_message
from tenth.core.errors import DataError

if TYPE_CHECKING:
    from tenth.core.types import DiffusionModel, Person
    from tenth.models.memory.planner import LoadOptions

# Verdicts on a file that is no photo at all; others, such as blurred, are said and the photo is left out.
FILE_CODES = (
    "hidden",
    "not-a-file",
    "unreadable",
    "empty",
    "too-large",
    "too-complex",
    "not-a-photo",
    "needs-heic",
    "truncated",
)


@dataclass(frozen=True)
class ModelOptions:
    """--model, --device, --adapter, --lora and --backend."""

    model: str
    device: str | None
    adapter: Path | None
    lora: Path | None
    backend: str | None = None

    def load(self, purpose: LoadOptions) -> DiffusionModel:
        """The model, and a line on stderr where it had to be made to fit into memory. Raises as `load_model` does.

        purpose: what it is loaded for, but for device and backend.
        """
        from tenth.models.registry import load_model

        options = replace(purpose, device=self.device or "", backend=self.backend or "")
        return load_model(self.model, adapter=self.adapter, lora=self.lora, options=options, on_message=print_message)


def read_person(*sources: Path, weights: Mapping[str, float] | None = None, is_saved: bool = False) -> tuple[Person, list[str]]:
    """The person in folders and files, and what to say about photos that are not used or doubtful.

    is_saved: whether they are the photos of a saved person, in the order in which they were given.

    weights: by what a photo is called, or its path. Raises DataError for a file, given as such, that is no photo, or a weight
    of none.
    """
    from tenth.data.photo_folder import inspect_entries, to_person
    from tenth.data.photo_notes import photo_notes
    from tenth.data.photo_sources import person_name, photo_entries

    names = photo_entries(sources, as_given=is_saved)
    verdicts = inspect_entries(names)
    for source in sources:  # what was named, and not found in a folder, is meant
        bad = next((each for each in verdicts if each.file == names.get(source) and each.code in FILE_CODES), None)
        if bad is not None:
            found = f"{source} cannot be used ({bad.code}: {bad.reason.rstrip('.')})"
            raise DataError(found, "files that are given one by one are photos", "Leave it out, or choose another")
    person = to_person(verdicts, person_name(sources))
    if weights:
        by_path = {str(path): name for path, name in names.items()}
        person = replace(person, photo_weights=match_weights(weights, verdicts, by_path))
    return person, photo_notes(verdicts)
