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
from tenth.core.files.decoder_errors import DECODER_ERRORS
from tenth.core.files.reading import UnreadableError, open_regular, parse_json, reason
from tenth.core.files.writing import write_if_changed
from tenth.core.marks.png import encode_png
from tenth.core.marks.webp import encode_webp
from tenth.core.types import Sample

MAX_METADATA_CHARS = 1 << 20  # four prompts of the most characters, each of these written as two escapes, and the rest
MAX_PNG_BYTES = 1 << 28  # more than the largest generated images have
HEADER_BYTES = 1 << 21  # of a PNG, in which all chunks before the pixels are


def save_sample(sample: Sample, path: str | Path) -> None:
    """Write a PNG with the settings that reproduce it: in our JSON, and in the `parameters` text that other tools read.

    Neither names the person or a photo, of which those in context are told by their sha256.
    """
    write_if_changed(path, encode_sample(sample))


def encode_sample(sample: Sample, image_format: str = "png") -> bytes:
    """As `save_sample`, in memory. A WebP, of the same pixels, carries the `parameters` in its EXIF, as A1111 has them."""
    if image_format == "webp":
        return encode_webp(Image.fromarray(sample.pixels), _a1111_parameters(sample))
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps(sample_metadata(sample), sort_keys=True))
    info.add_text("parameters", _a1111_parameters(sample))
    return encode_png(Image.fromarray(sample.pixels), info)


def sample_metadata(sample: Sample) -> dict[str, Any]:
    """The settings that reproduce an image."""
    return base_metadata(sample.prompt, sample.seed, sample.method, sample.model) | dict(sample.settings)


def read_sample(path: str | Path) -> dict[str, Any]:
    """The settings that `save_sample` wrote. Raises DataError if the file is no PNG, or has no complete settings of tenth."""
    path = Path(path)
    text = _read_text_chunk(path)
    if not isinstance(text, str):
        raise _unusable_png(path, "carries no settings of tenth")
    try:
        settings = parse_json(text) if len(text) <= MAX_METADATA_CHARS else None
    except UnreadableError as problem:
        raise _unusable_png(path, f"carries damaged settings: what it says {problem}") from problem
    if not isinstance(settings, dict):
        raise _unusable_png(path, "carries damaged settings")
    return settings


def _read_text_chunk(path: Path) -> Any:
    """The PNG's text under our key, or None. Pixels are not decoded, and nothing after them is read."""
    try:
        with open_regular(path, MAX_PNG_BYTES) as file:
            header = BytesIO(file.read(HEADER_BYTES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(header, formats=["PNG"]) as image:
                return image.info.get("tenth")
    except UnreadableError as problem:
        raise _unusable_png(path, str(problem)) from problem
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError, struct.error) as problem:
        raise _unusable_png(path, "is not a PNG") from problem
    except OSError as problem:
        raise _unusable_png(path, reason(problem)) from problem
    except ValueError as problem:  # Pillow's limits of a text
        raise _unusable_png(path, f"carries a text that is too long ({problem})") from problem


def _unusable_png(path: Path, reason_text: str) -> DataError:
    return DataError(f"{path} {reason_text}", "a PNG as tenth wrote it is needed", "Choose another image, or give the options")


def read_if_complete(path: Path) -> dict[str, Any] | None:
    """The settings in a PNG of ours; None unless the file exists and all of its pixels can be decoded."""
    try:
        with open_regular(path, MAX_PNG_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
        return read_sample(path)
    except (*DECODER_ERRORS, DataError):
        return None


def base_metadata(prompt: str, seed: int, method: str, model: str) -> dict[str, Any]:
    """The settings that every image records."""
    return {"prompt": prompt, "seed": seed, "method": method, "model": model, "tenth": version("tenth")}


def _a1111_parameters(sample: Sample) -> str:
    settings = sample.settings
    lines = [sample.prompt]
    if settings["negative_prompt"]:
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    height, width = sample.pixels.shape[:2]
    fields = {
        "Steps": settings["steps"],
        "Sampler": sample.sampler,
        "CFG scale": settings["guidance_scale"],
        "Seed": sample.seed,
    }
    fields |= {"Size": f"{width}x{height}"}
    if "start_image" in settings:
        fields |= {"Denoising strength": settings["start_image"]["strength"]}
    elif len(settings.get("passes", [])) > 1:
        fields |= {"Denoising strength": settings["strength"]}
    fields |= {"Model": sample.model, "Method": sample.method, "Version": f"tenth {version('tenth')}"}
    lines.append(", ".join(f"{name}: {_quote_value(value)}" for name, value in fields.items()))
    return "\n".join(lines)


def _quote_value(value: Any) -> str:
    """Quoted as A1111 does, and reads back (modules/infotext_utils.py), where a character would end the value."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text
