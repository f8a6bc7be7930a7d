"""The cost of work on this machine: seconds, and peak memory."""

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
RESET = "5"  # written to clear_refs, it resets the peak


@dataclass
class Cost:
    """seconds and peak_memory_mb, set when the work is done: the process's peak resident memory, or an accelerator's.

    None where neither Linux nor an accelerator reports it.
    """

    seconds: float = 0.0
    peak_memory_mb: int | None = None


@contextmanager
def measure_cost() -> Iterator[Cost]:
    """Measure the block."""
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
    """The process's peak resident memory. Not from `resource`: there a child's starts at its parent's."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def append_cost(path: Path, cost: Cost, **labels: Any) -> None:
    """Add a line of JSON to a file, which is replaced as a whole: the cost, and `labels`, which say of what."""
    line = labels | {"seconds": round(cost.seconds, 3), "peak_memory_mb": cost.peak_memory_mb}
    write_text(path, "".join(text + "\n" for text in [*_valid_lines(path), json.dumps(line)]))  # the others as they stand


def add_recorded_cost(path: Path, cost: Cost, **labels: Any) -> Cost:
    """A cost plus that of the last line with these labels, if there is one."""
    for line in reversed(_read_records(path)):
        if line.items() >= labels.items():
            peaks = [peak for peak in (cost.peak_memory_mb, line["peak_memory_mb"]) if peak is not None]
            return Cost(cost.seconds + line["seconds"], max(peaks, default=None))
    return cost


def summarize_costs(path: Path, task: str) -> dict[str, dict[str, Any]]:
    """By method, of lines of one task: median seconds per unit of `count`, peak megabytes, and the number of lines."""
    lines = [line for line in _read_records(path) if line.get("task") == task and isinstance(line.get("method"), str)]
    summary: dict[str, dict[str, Any]] = {}
    for value in dict.fromkeys(line["method"] for line in lines):
        matching = [line for line in lines if line["method"] == value]
        megabytes = [line["peak_memory_mb"] for line in matching if line["peak_memory_mb"] is not None]
        seconds = statistics.median(line["seconds"] / line["count"] for line in matching)
        summary[value] = {
            "seconds": round(seconds, 3),
            "peak_memory_mb": max(megabytes, default=None),
            "measured": len(matching),
        }
    return summary


def _read_records(path: Path) -> list[dict[str, Any]]:
    return [line for line in map(_parse_record, _valid_lines(path)) if line is not None]


def _valid_lines(path: Path) -> list[str]:
    """Lines that record a cost. Others, such as one that a killed run left half written, are ignored."""
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
    cost: dict[str, Any] = {"peak_memory_mb": None, "count": 1, "seconds": None} | line
    numbers = [cost["seconds"], cost["count"], 0 if cost["peak_memory_mb"] is None else cost["peak_memory_mb"]]
    return cost if all(map(_is_non_negative, numbers)) and cost["count"] else None


def _is_non_negative(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _accelerator() -> Any:
    return torch.cuda if torch.cuda.is_available() else None
