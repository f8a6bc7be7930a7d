"""The TOML file that describes a face recogniser: what to open, how to cut the face, how to scale it. Checked key by key.

name = "mine"                    model = "mine.onnx"       # beside this file
sha256 = "..."                   input = "face"            output = "embedding"
size = [96, 112]                 mean = 127.5              scale = 128.0
template = [[30.3, 51.7], ...]   # five points
[detector]
kind = "yunet"                   model = "yunet.onnx"      sha256 = "..."
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tenth.core.errors import ModelError
from tenth.core.files.reading import UnreadableError, read_toml, read_verified, reason
from tenth.core.wording import abbreviate, did_you_mean

Point = tuple[float, float]
NUM_LANDMARKS = 5  # what the detectors in use give per face
MAX_MODEL_BYTES = 2 << 30  # the most that an ONNX file has in one piece
MAX_TEXT_CHARS = 1_000  # characters of a text
MAX_CONFIG_BYTES = 1 << 20  # of the TOML file
MAX_PIXELS = 10_000  # of a side, a template's place or a border: far above what any network reads
MAX_NUMBER, MIN_SCALE = 1e6, 1e-6  # of `mean` and `scale`


@dataclass(frozen=True)
class DetectorConfig:
    """Which detector finds the face. model: an ONNX file, absolute after reading; kind 'dlib' needs neither it nor sha256."""

    kind: str
    model: str = ""
    sha256: str = ""
    threshold: float = 0.5  # least score of a face; generated faces score lower than photographed ones


@dataclass(frozen=True)
class RecognizerConfig:
    """What the file says. size: width, height of the crop in pixels; template: five points in it, in the detector's order."""

    name: str
    model: str  # an ONNX file, absolute after reading
    sha256: str
    input: str
    output: str
    size: tuple[int, int]
    mean: float  # the network sees (value - mean) / scale
    scale: float
    template: tuple[Point, ...]
    detector: DetectorConfig
    order: str = "RGB"
    flip: bool = True  # embed the mirror image too and put both side by side: less pose in the result
    upsize_below: int = 0  # pictures whose shorter side has fewer pixels are resized; 0: never
    upsize_to: int = 256  # side of the square they become, pixels: detectors miss faces in small pictures
    border: float = 0.25  # repeated on all sides, a share of the height: finds faces that fill the picture
    accept: float | None = None  # the least cosine of one person, at a false-accept rate that whoever measured it knows
    licence: str = ""  # of the weights, shown with every result

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that embeddings depend on: settings, and the models by their sha256."""
        models = {"name": "", "model": "", "detector": asdict(self.detector) | {"model": ""}, "accept": None, "licence": ""}
        return hashlib.sha256(json.dumps(asdict(self) | models, sort_keys=True).encode()).hexdigest()[:16]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARS and value.isprintable()


def _is_pixel_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PIXELS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER  # nan is in no range


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_pixel_count(side) and side > 0 for side in value)


def _is_template(value: Any) -> bool:
    pairs = isinstance(value, list) and len(value) == NUM_LANDMARKS and all(isinstance(point, list) for point in value)
    return pairs and all(
        len(point) == 2 and all(_is_number(each) and abs(each) <= MAX_PIXELS for each in point) for point in value
    )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


Rules = Mapping[str, tuple[str, Callable[[Any], bool]]]
DETECTOR_RULES: Rules = {
    "kind": ("'yunet' or 'dlib'", lambda value: value in ("yunet", "dlib")),
    "model": ("the path of an ONNX file", _is_text),
    "sha256": ("64 hexadecimal digits in lower case", _is_sha256),
    "threshold": ("a number from 0 to 1", _is_fraction),
}
RULES: Rules = {
    "name": ("a text", _is_text),
    "model": ("the path of an ONNX file", _is_text),
    "sha256": ("64 hexadecimal digits in lower case", _is_sha256),
    "input": ("the name of the network's input", _is_text),
    "output": ("the name of the network's output", _is_text),
    "size": ("[width, height] in pixels", _is_size),
    "mean": ("a number", _is_number),
    "scale": ("a number above 0", lambda value: _is_number(value) and value >= MIN_SCALE),
    "template": ("five [x, y] points", _is_template),
    "detector": ("a table [detector]", lambda value: isinstance(value, dict)),
    "order": ("'RGB' or 'BGR'", lambda value: value in ("RGB", "BGR")),
    "flip": ("true or false", lambda value: isinstance(value, bool)),
    "upsize_below": ("a whole number of pixels", _is_pixel_count),
    "upsize_to": ("a whole number of pixels above 0", lambda value: _is_pixel_count(value) and value > 0),
    "border": ("a share of the height, 0 to 1", _is_fraction),
    "accept": ("a cosine from 0 to 1", _is_fraction),
    "licence": ("a text", _is_text),
}


def read_recognizer_config(path: Path) -> RecognizerConfig:
    """The settings in a TOML file; the model files they name, relative to it, are not opened yet.

    Raises ModelError if the file is missing or no TOML, or if a key is unknown, missing or impossible.
    """
    table = _read_toml(path)
    _validate_table(table, RULES, RecognizerConfig, f"{path.name}")
    detector: dict[str, Any] = table["detector"]
    _validate_table(detector, DETECTOR_RULES, DetectorConfig, f"[detector] of {path.name}")
    _validate_detector_model(detector, path.name)
    for part in (table, detector):
        if "model" in part:
            part["model"] = str((path.parent / part["model"]).absolute())  # not `resolve`: a link may lead back to itself
    table["size"] = tuple(table["size"])
    table["template"] = tuple((float(x), float(y)) for x, y in table["template"])
    return RecognizerConfig(**{**table, "detector": DetectorConfig(**detector)})


def read_model(path: Path, sha256: str) -> bytes:
    """The bytes of a model file, verified. Raises ModelError if it is missing or another file."""
    try:
        return read_verified(path, sha256, MAX_MODEL_BYTES)
    except (OSError, UnreadableError) as problem:
        needed = f"the recogniser's file names one with the sha256 {sha256}"
        raise ModelError(f"{path} {reason(problem)}", needed, "Put it there, or correct `model` and `sha256`") from problem


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path, MAX_CONFIG_BYTES)
    except (OSError, UnreadableError) as problem:
        raise ModelError(f"{path} {reason(problem)}", "a recogniser's TOML file is needed", "Correct it") from problem


def _validate_table(table: Mapping[str, Any], rules: Rules, settings: type, where: str) -> None:
    known = f"known keys: {', '.join(rules)}"
    for key, value in table.items():
        if key not in rules:
            raise ModelError(
                f"{where} has the unknown key {key!r}", known, did_you_mean(key, list(rules)) + "Remove or correct it"
            )
        needed, fits = rules[key]
        if not fits(value):
            raise ModelError(f"{where} has {key} = {repr(value)[:200]}", f"{needed} is needed", "Correct it")
    required = [each.name for each in fields(settings) if each.default is MISSING]
    missing = [key for key in required if key not in table]
    if missing:
        raise ModelError(f"{where} lacks {abbreviate(missing)}", known, "Add what is missing")


def _validate_detector_model(detector: Mapping[str, Any], file: str) -> None:
    given = [key for key in ("model", "sha256") if key in detector]
    needed = [] if detector["kind"] == "dlib" else ["model", "sha256"]
    if given != needed:
        raise ModelError(
            f"[detector] of {file} has kind {detector['kind']!r} and gives {' and '.join(given) or 'no model'}",
            "'yunet' needs model and sha256, 'dlib' brings its own and takes neither",
            "Correct it",
        )
