"""What run.json says of images of several people: how like each of them is in the part of the image that is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenth.core.errors import ModelError
from tenth.evaluation.image_set import load_image
from tenth.evaluation.people_in_regions import measure_regions
from tenth.sampling.generate import Request


def measured_people(requests: Sequence[Request], paths: Sequence[Path]) -> dict[str, Any]:
    """The figures of each image by its name, a row for each person; {} of images of one person, or without a recognizer."""
    try:
        rows = {
            path.name: [asdict(figures) for figures in measure_regions([load_image(path)], request.people)[0]]
            for request, path in zip(requests, paths, strict=True)
            if request.people
        }
    except ModelError:  # the recognizer is not installed
        return {}
    return {"people": rows} if rows else {}
