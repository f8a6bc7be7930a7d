"""The TOML file that describes a face recognizer: its model, alignment and scaling. Checked key by key.

name = "mine"                    model = "mine.onnx"       # beside this file
sha256 = "..."                   input = "face"            output = "embedding"    # may be left out where there is one of each
size = [96, 112]                 mean = 127.5              scale = 128.0
template = [[30.3, 51.7], ...]   # five points
[detector]
type = "yunet"                   model = "yunet.onnx"      sha256 = "..."
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tenth.core.config import Fraction, config_dataclass, from_table, needs, require
from tenth.core.errors import ModelError, RecipeError
from tenth.core.files.reading import UnreadableError, read_toml, read_verified, reason

HELP = "docs/recognizers.md says how to describe one, and where they are published"
NUM_LANDMARKS = 5  # what the detectors in use give per face
MAX_MODEL_BYTES = 2 << 30  # the most that an ONNX file has in one piece
MAX_TEXT_CHARS = 1_000  # characters of a text
MAX_CONFIG_BYTES = 1 << 20  # of the TOML file
MAX_PIXELS = 10_000  # of a side, a template's place or a border: far above what any network reads
SHA256 = re.compile("[0-9a-f]{64}")
MAX_NUMBER, MIN_SCALE = 1e6, 1e-6  # of `mean` and `scale`

Text = Annotated[str, needs("a text", lambda text: 0 < len(text) <= MAX_TEXT_CHARS and text.isprintable())]
Name = Annotated[str, needs("a text", lambda text: len(text) <= MAX_TEXT_CHARS and (not text or text.isprintable()))]
ModelPath = Annotated[str, needs("the path of an ONNX file", lambda text: "\0" not in text)]
Digest = Annotated[str, needs("64 hexadecimal digits in lower case", lambda text: not text or bool(SHA256.fullmatch(text)))]
PixelCount = Annotated[int, Field(ge=0, le=MAX_PIXELS)]
Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
Coordinate = Annotated[float, Field(ge=-MAX_PIXELS, le=MAX_PIXELS)]
Point = tuple[Coordinate, Coordinate]


@config_dataclass
class DetectorConfig:
    """Which detector finds the face. model: an ONNX file, absolute after reading; type 'dlib' needs neither it nor sha256."""

    type: Literal["yunet", "dlib"]
    model: ModelPath = ""
    sha256: Digest = ""
    threshold: Fraction = 0.5  # least score of a face; generated faces score lower than photographed ones

    def __post_init__(self) -> None:
        given = [key for key in ("model", "sha256") if getattr(self, key)]
        expected = "model and sha256 beside 'yunet', neither beside 'dlib', which brings its own"
        require(given == ([] if self.type == "dlib" else ["model", "sha256"]), "[detector] type", self.type, expected)


@config_dataclass
class RecognizerConfig:
    """What the file says. size: width, height of the crop in pixels; template: five points in it, in the detector's order."""

    name: Text
    model: Annotated[ModelPath, Field(min_length=1)]  # an ONNX file, absolute after reading
    sha256: Annotated[Digest, Field(min_length=1)]
    size: tuple[Side, Side]
    mean: Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]  # the network sees (value - mean) / scale
    scale: Annotated[float, Field(ge=MIN_SCALE, le=MAX_NUMBER)]
    template: Annotated[tuple[Point, ...], needs("five points", lambda points: len(points) == NUM_LANDMARKS)]
    detector: DetectorConfig
    input: Name = ""  # the network's, by name; "": its only one
    output: Name = ""
    order: Literal["RGB", "BGR"] = "RGB"
    flip: bool = True  # embed the mirror image too and put both side by side: less pose in the result
    upsize_below: PixelCount = 0  # images whose shorter side has fewer pixels are resized; 0: never
    upsize_to: Side = 256  # side of the square they become, pixels: detectors miss faces in small images
    border: Fraction = 0.25  # repeated on all sides, a share of the height: finds faces that fill the image
    accept_threshold: Fraction | None = None  # the least cosine of one person, at whatever false-accept rate it was measured
    licence: Annotated[str, Field(max_length=MAX_TEXT_CHARS)] = ""  # of the weights, shown with every result

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that embeddings depend on: settings, and the models by their sha256."""
        settings = asdict(self)
        del (
            settings["name"],
            settings["model"],
            settings["detector"]["model"],
            settings["accept_threshold"],
            settings["licence"],
        )
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_recognizer_config(path: Path) -> RecognizerConfig:
    """The settings in a TOML file; the model files they name, relative to it, are not opened yet.

    Raises ModelError if the file is missing or no TOML, or if a key is unknown, missing or impossible.
    """
    try:
        table = read_toml(path, MAX_CONFIG_BYTES)
        for part in (table, table.get("detector")):
            if isinstance(part, dict) and isinstance(part.get("model"), str) and part["model"]:
                part["model"] = str((path.parent / part["model"]).absolute())  # not `resolve`: a link may lead back to itself
        return from_table(RecognizerConfig, table, path.name)
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{path} {reason(problem)}", "a recognizer's TOML file is needed", f"Correct it; {HELP}") from problem
    except RecipeError as problem:
        raise ModelError(problem.found, problem.needed, f"{problem.action}; {HELP}") from None


def read_model(path: Path, sha256: str) -> bytes:
    """The bytes of a model file, verified. Raises ModelError if it is missing or another file."""
    try:
        return read_verified(path, sha256, MAX_MODEL_BYTES)
    except (OSError, UnreadableError) as problem:
        needed = f"the recognizer's file names one with the sha256 {sha256}"
        raise ModelError(
            f"{path} {reason(problem)}", needed, f"Put it there, or correct `model` and `sha256`; {HELP}"
        ) from problem
