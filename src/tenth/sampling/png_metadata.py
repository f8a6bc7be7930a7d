"""The settings of an image in its PNG: written beside the pixels, and read back."""

from __future__ import annotations

import json
import struct
import warnings
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from tenth.core.errors import DataError
from tenth.core.file_reading import UnreadableError, open_regular, parse_json, reason
from tenth.core.file_writing import write_png
from tenth.core.types import Sample

MOST_SAID = 100_000  # characters that a picture says of itself
PICTURE_BYTES = 1 << 28  # of a PNG: more than the largest pictures that are drawn have
BEGINNING = 1 << 21  # of these, in which everything stands that comes before the pixels


def save_sample(sample: Sample, path: str | Path) -> None:
    """Write a PNG that says how to make it again: in our JSON and in the `parameters` text that other tools read.

    Neither names the person or a photo.
    """
    said = _said(sample.prompt, sample.seed, sample.method, sample.model) | dict(sample.settings)
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps(said, sort_keys=True))
    info.add_text("parameters", _parameters(sample))
    write_png(path, Image.fromarray(sample.pixels), info)


def read_sample(path: str | Path) -> dict[str, Any]:
    """What `save_sample` wrote beside the pixels. Raises DataError if it is no PNG, or carries nothing of tenth's whole."""
    path = Path(path)
    said = _text_in(path)
    if not isinstance(said, str):
        raise _unusable(path, "carries no settings of tenth")
    try:
        settings = parse_json(said) if len(said) <= MOST_SAID else None
    except UnreadableError as problem:
        raise _unusable(path, f"carries damaged settings: what it says {problem}") from problem
    if not isinstance(settings, dict):
        raise _unusable(path, "carries damaged settings")
    return settings


def _text_in(path: Path) -> Any:
    """What a PNG says under our name. No pixel is decoded, and no more is read than stands before them."""
    try:
        with open_regular(path, PICTURE_BYTES) as file:
            beginning = BytesIO(file.read(BEGINNING))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(beginning, formats=["PNG"]) as image:
                return image.info.get("tenth")
    except UnreadableError as problem:
        raise _unusable(path, str(problem)) from problem
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError, struct.error) as problem:
        raise _unusable(path, "is not a PNG") from problem
    except OSError as problem:
        raise _unusable(path, reason(problem)) from problem
    except ValueError as problem:  # Pillow's limits of a text
        raise _unusable(path, f"carries a text that is too long ({problem})") from problem


def _unusable(path: Path, found: str) -> DataError:
    return DataError(f"{path} {found}", "a PNG as tenth wrote it is needed", "Choose another picture, or give the options")


def read_whole(path: Path) -> dict[str, Any] | None:
    """What a PNG of ours says of itself; None unless it is there and all of its pixels can be read."""
    try:
        with open_regular(path, PICTURE_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
        return read_sample(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, DataError):
        return None


def _said(prompt: str, seed: int, method: str, model: str) -> dict[str, Any]:
    return {"prompt": prompt, "seed": seed, "method": method, "model": model, "tenth": version("tenth")}


def _parameters(sample: Sample) -> str:
    settings = sample.settings
    lines = [sample.prompt]
    if settings["negative"]:
        lines.append(f"Negative prompt: {settings['negative']}")
    height, width = sample.pixels.shape[:2]
    said = {"Steps": settings["steps"], "Sampler": sample.sampler, "CFG scale": settings["guidance"], "Seed": sample.seed}
    said |= {"Size": f"{width}x{height}"}
    if len(settings.get("passes", [])) > 1:
        said |= {"Denoising strength": settings["strength"]}
    said |= {"Model": sample.model, "Method": sample.method, "Version": f"tenth {version('tenth')}"}
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in said.items()))
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    """As A1111 writes a value with characters that would end it, and reads it back (modules/infotext_utils.py)."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text
