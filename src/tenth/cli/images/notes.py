"""What to say of images: how they come to their sizes, what of prompts is not read, whose face was made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tenth.cli.png_settings import MergedOptions
from tenth.core.wording import pluralize
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.generate import Request
from tenth.sampling.png_metadata import read_sample
from tenth.sampling.prompts.vocabulary import prompt_warnings

MAX_NOTES = 4  # lines about prompts, of which there may be thousands


def image_notes(model: LatentDiffusion, requests: Sequence[Request], options: MergedOptions) -> list[str]:
    """How images come to their sizes, and what of the prompts the model does not read."""
    sizes = dict.fromkeys(request.hires or options.hires for request in requests)
    settings = [request.settings(options.sampling, None)[0] for request in requests]
    prompts = dict.fromkeys(request.prompt for request in requests) | dict.fromkeys(each.negative_prompt for each in settings)
    notes = list(dict.fromkeys(note for prompt in prompts for note in prompt_warnings(model, prompt)))
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"and {pluralize(len(notes) - MAX_NOTES, 'more such line')} about other prompts"]
    return [note for size in sizes if size for note in size.notes(model)] + notes


def face_notes(model: LatentDiffusion, requests: Sequence[Request], paths: Sequence[Path], options: MergedOptions) -> list[str]:
    """Which faces were made again."""
    notes = []
    for request, path in zip(requests, paths, strict=True):
        hires = request.hires or options.hires
        if hires and read_sample(path).get("face_detailed"):
            notes += hires.face_notes(model, [path.name])
    return notes
