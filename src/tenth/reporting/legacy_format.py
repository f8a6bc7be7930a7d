"""Records written before results had a format number, turned into the layout of today: identity alone, nothing corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

METRICS = {"similarity": "identity", "stranger": "stranger", "detection": "detection", "copy": "copy-index"}
CHOOSING = "dlib (conditions the model"  # how the recogniser that a method reads was called


def to_format_2(record: Mapping[str, Any]) -> dict[str, Any]:
    """`results` of format 2 from those without one. p_holm and win_rate were not computed then and stay null."""
    settings, identity = record["settings"], record["results"]["identity"]
    scores, differences = [], []
    for judge, conditions in identity.items():
        for at, row in _rows(conditions, settings):
            where = {**at, "track": "", "judge": judge, "method": row["method"]}
            scores += [{**where, **row[key], "metric": metric} for key, metric in METRICS.items()]
            for against, difference in _differences(row).items():
                if difference is not None:
                    differences.append({**where, **difference, "metric": "identity", "against": against})
    return {
        "format": 2,
        "people": record["results"]["people"],
        "judges": [{"name": name, "headline": not name.startswith(CHOOSING)} for name in identity],
        "scores": scores,
        "differences": differences,
        "tracks": {"": {"prompts": [settings["prompt"]], "images": settings["images"]}},
    }


def _rows(conditions: Any, settings: Mapping[str, Any]) -> Iterator[tuple[dict[str, int], Mapping[str, Any]]]:
    """Condition and row. The first version had one condition, and its rows without a list around them."""
    for entry in conditions:
        at = {"photos": entry.get("photos", settings["references"]), "wrong": entry.get("wrong", 0)}
        yield from ((at, row) for row in entry.get("rows", [entry]))


def _differences(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """By the method they are taken to. The first version had one."""
    found: Mapping[str, Any] = row.get("differences") or {row.get("against", ""): row.get("difference")}
    return found
