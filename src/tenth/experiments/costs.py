"""What a piece of work costs on this machine: seconds, and the most memory that it held."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tenth.core.files.reading import UnreadableError, parse_json, read_lines
from tenth.core.files.writing import write_text

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux
RESET = "5"  # written there, the peak begins anew


@dataclass
class Cost:
    """Known when the work is done. peak_memory_mb: the process's largest resident memory, an accelerator's where there is one.

    None where neither Linux nor an accelerator says it.
    """

    seconds: float = 0.0
    peak_memory_mb: int | None = None


@contextmanager
def measure_cost() -> Iterator[Cost]:
    """Measure what happens inside."""
    cost, device = Cost(), _accelerator()
    if device is not None:
        device.reset_peak_memory_stats()
    elif PEAK_RESET.exists():
        PEAK_RESET.write_text(RESET)
    start = time.perf_counter()
    yield cost
    cost.seconds = time.perf_counter() - start
    if device is not None:
        cost.peak_memory_mb = round(device.max_memory_allocated() / 1e6)
    elif PEAK_RESET.exists():
        cost.peak_memory_mb = peak_megabytes()


def peak_megabytes() -> int:
    """The process's largest resident memory so far. Not from `resource`: a child's begins there with its parent's."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def append_cost(path: Path, cost: Cost, **labels: Any) -> None:
    """Add a line of JSON to a file, which is replaced whole: what it cost, and what `labels` say that it was."""
    line = labels | {"seconds": round(cost.seconds, 3), "megabytes": cost.peak_memory_mb}
    write_text(path, "".join(text + "\n" for text in [*_valid_lines(path), json.dumps(line)]))  # the others as they stand


def add_recorded_cost(path: Path, cost: Cost, **labels: Any) -> Cost:
    """A cost and that of the last line that says all that `labels` say, one after the other."""
    recorded: dict[str, Any] = next((line for line in reversed(_read_records(path)) if line.items() >= labels.items()), {})
    peaks = [each for each in (cost.peak_memory_mb, recorded.get("megabytes")) if each is not None]
    return Cost(cost.seconds + recorded.get("seconds", 0.0), max(peaks, default=None))


def summarize_costs(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """By the value of one key of the file's lines: median seconds for each of their `count`, most megabytes, and how many."""
    lines = _read_records(path)
    summary: dict[str, dict[str, Any]] = {}
    for value in dict.fromkeys(line[key] for line in lines if isinstance(line.get(key), str)):
        matching = [line for line in lines if line.get(key) == value]
        megabytes = [line["megabytes"] for line in matching if line["megabytes"] is not None]
        seconds = statistics.median(line["seconds"] / line["count"] for line in matching)
        summary[value] = {"seconds": round(seconds, 3), "megabytes": max(megabytes, default=None), "measured": len(matching)}
    return summary


def _read_records(path: Path) -> list[dict[str, Any]]:
    return [line for line in map(_parse_record, _valid_lines(path)) if line is not None]


def _valid_lines(path: Path) -> list[str]:
    """Lines that say what something cost. One that does not, as of a run that was killed while it wrote, is left out."""
    try:
        return [text for text in read_lines(path) if _parse_record(text) is not None]
    except (OSError, UnreadableError):
        return []


def _parse_record(text: str) -> dict[str, Any] | None:
    try:
        line = parse_json(text)
    except UnreadableError:
        return None
    if not isinstance(line, dict):
        return None
    cost: dict[str, Any] = {"megabytes": None, "count": 1, "seconds": None} | line
    numbers = [cost["seconds"], cost["count"], 0 if cost["megabytes"] is None else cost["megabytes"]]
    return cost if all(map(_is_non_negative, numbers)) and cost["count"] else None


def _is_non_negative(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _accelerator() -> Any:
    return torch.cuda if torch.cuda.is_available() else None
