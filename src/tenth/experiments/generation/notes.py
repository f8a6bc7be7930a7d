"""What to say of images: how they come to their sizes, what of prompts is not read, whose face was made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tenth.core.files.png_metadata import read_sample
from tenth.core.wording import pluralize
from tenth.experiments.generation.run import ImageRun
from tenth.sampling.prompts.vocabulary import guidance_notes, prompt_warnings

MAX_NOTES = 4  # lines about prompts, of which there may be thousands


def image_notes(images: ImageRun) -> list[str]:
    """How images come to their sizes, and what of the prompts the model does not read."""
    sizes = dict.fromkeys(request.hires or images.hires for request in images.requests)
    settings = [request.settings(images.sampling, None)[0] for request in images.requests]
    prompts = dict.fromkeys(each.prompt for each in images.requests) | dict.fromkeys(each.negative_prompt for each in settings)
    notes = list(dict.fromkeys(note for prompt in prompts for note in prompt_warnings(images.model, prompt)))
    unread = Counter(note for each in settings for note in guidance_notes(images.model, each))
    total = len(settings)
    notes += [note if count == total else f"in {count} of {total} images {note}" for note, count in unread.items()]
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"and {pluralize(len(notes) - MAX_NOTES, 'more such line')} about other prompts"]
    return [note for size in sizes if size for note in size.notes(images.model)] + notes


def face_notes(images: ImageRun, paths: Sequence[Path], indices: Sequence[int]) -> list[str]:
    """Which faces were made again. indices: of the requests of the images at these paths."""
    notes = []
    for path, index in zip(paths, indices, strict=True):
        hires = images.requests[index].hires or images.hires
        if hires and read_sample(path).get("face_detailed"):
            notes += hires.face_notes(images.model, [path.name])
    return notes
