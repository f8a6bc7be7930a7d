"""A made-up record of an experiment, with everything that a page can show. No number in it was measured."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EVIL = "<script>alert('a')</script>"  # the name of a method, and a reason
METHODS = ["ip-adapter", "ip-adapter-avg", "ip-adapter-max", "dreambooth", EVIL]
CONTROLS = ["real photos", "verbatim copies", "average of the references", "another person", "no identity"]
JUDGE, READ = "recognizer@0123456789abcdef", "dlib-resnet@0123456789abcdef"
NO_FILE = "needs the Inception file"
IDENTITY = {
    "ip-adapter": 0.13,
    "ip-adapter-avg": 0.15,
    "ip-adapter-max": 0.11,
    "dreambooth": 0.2,
    EVIL: 0.131,
    "real photos": 0.6,
    "verbatim copies": 0.59,
    "average of the references": 0.7,
    "another person": 0.03,
    "no identity": 0.031,
}
COPY = {"dreambooth": 0.3, "verbatim copies": 1.0, "average of the references": 0.2}
JUDGED = (
    "identity-similarity",
    "impostor-similarity",
    "face-detection-rate",
    "true-accept-rate",
    "copy-paste-index",
    "identity-diversity",
    "face-frechet-distance",
)
UNAVAILABLE = ("fid", "fid-infinity", "kid", "inception-score")
SETS = ("precision", "recall", "density", "coverage")


def made_up() -> dict[str, Any]:
    """The whole record: two prompt_sets, two recognizers, a curve, a num_impostors photo, cells without a value, failures."""
    settings = {
        "methods": [*METHODS],
        "baselines": ["ip-adapter"],
        "split": "test",
        "references": 9,
        "images": 4,
        "seed": 0,
        "model": "pocket",
        "model_weights": "pocket@0123",
        "recognizers": ["recognizer.toml", "dlib"],
        "max_people": None,
        "prompt": 'a "b" \\ c',
        "data": {"people": "people.jsonl", "num_photos": "photos"},
        "sampling": {"steps": 15, "guidance_scale": 3.0, "negative_prompt": ""},
        "people_sha256": "00ff",
        "tenth": "0.1.0",
        "trained_methods": {"ip-adapter-set": "aa"},
    }
    recognizers = [{"name": JUDGE, "licence": "MIT", "threshold": 0.376, "selection_only": False}]
    recognizers.append({"name": READ, "licence": "CC0", "threshold": None, "selection_only": True})
    results = {
        "format": 4,
        "people": ["000", "001", "002"],
        "disclaimer": "",
        "recognizers": recognizers,
        "seconds": 8000.0,
        "scores": scores(),
        "differences": differences(),
        "costs": [
            {"method": name, "seconds_per_person": 140.0, "seconds_per_image": 0.9, "peak_memory_mb": None} for name in METHODS
        ],
        "failed": [{"method": "dreambooth", "person": "002", "reason": EVIL}],
        "prompt_sets": {
            "portrait": {"prompts": ["a photo"], "images": 4},
            "attributes": {"prompts": ["a photo", "a hat", "a <b>"], "images": 4},
        },
    }
    environment = {"python": "3.11.7", "libraries": {"torch": "2.14.1"}, "platform": "Linux x86_64", "cores": 2}
    written = "2026-11-24T12:00:00+00:00"
    return {"kind": "experiment", "settings": settings, "environment": environment, "written": written, "results": results}


def scores() -> list[dict[str, Any]]:
    draws = random.Random(0)
    found = []
    for prompt_set in ("portrait", "attributes"):
        for photos, num_impostors in ((1, 0), (5, 0), (9, 0), (9, 1)):
            for name in METHODS if (photos, num_impostors) != (9, 0) else METHODS + CONTROLS:
                at = {"prompt_set": prompt_set, "num_photos": photos, "num_impostors": num_impostors, "method": name}
                value = {metric: draws.uniform(0.02, 0.9) for metric in (*JUDGED, *SETS)}
                value |= {"identity-similarity": IDENTITY[name] * (0.8 + photos / 45), "copy-paste-index": COPY.get(name, 0.02)}
                found += [score(at, metric, value[metric], recognizer) for recognizer in (JUDGE, READ) for metric in JUDGED]
                found += [score(at, metric, value[metric]) for metric in SETS]
                found += [score(at, metric, None) for metric in UNAVAILABLE]
    return found


def score(at: dict[str, Any], metric: str, value: float | None, recognizer: str = "") -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    text = {"unavailable": NO_FILE if value is None else ""}
    raw = None if metric != "precision" else 0.123
    cell = {
        "metric": metric,
        "recognizer": recognizer,
        "value": value,
        "low": low,
        "high": high,
        "n": 0 if value is None else 53,
    }
    return {**at, **cell, **text, "raw": raw}


def differences() -> list[dict[str, Any]]:
    """All pairs, in one direction each; the last method's are level with the first's."""
    found = []
    for prompt_set in ("portrait", "attributes"):
        for one, other in combinations(METHODS, 2):
            value = IDENTITY[one] - IDENTITY[other]
            sure = {"p_value": 0.0001, "p_holm": 0.0004} if abs(value) > 0.01 else {"p_value": 0.3, "p_holm": 0.6}
            where = {
                "prompt_set": prompt_set,
                "num_photos": 9,
                "num_impostors": 0,
                "method": one,
                "baseline": other,
                "metric": "identity-similarity",
            }
            found.append(
                {**where, "recognizer": JUDGE, "value": value, "low": value, "high": value, "n": 53, "win_rate": 0.25} | sure
            )
    return found


@pytest.fixture
def record() -> dict[str, Any]:
    return made_up()


@pytest.fixture
def run_folder(tmp_path: Path, record: dict[str, Any]) -> Path:
    """A run with its record and pictures of two of the three people; one seed of one method is missing."""
    colours = {"ip-adapter": (200, 60, 60), "dreambooth": (60, 160, 90), "script-alert-a-script": (60, 90, 200)}
    people, seeds = ("000", "001"), (0, 1, 10)
    for place in ("images/none/0", "images/none/1", *(f"references/{person}/{k}" for person in people for k in (0, 1))):
        save(tmp_path / f"{place}.png", (150, 150, 150))
    for person in people:
        for folder, colour in colours.items():
            for seed in seeds:
                save(tmp_path / f"images/9/{folder}/{person}/{seed}.png", colour)
    (tmp_path / "images/9/dreambooth/001/10.png").unlink()
    (tmp_path / "run.json").write_text(json.dumps(record))
    return tmp_path


def save(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (128, 128), colour).save(path)
