"""The cost of work on this machine: seconds, and peak memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
    append_lines(path, [cost_line(cost, **labels)])


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines of `cost_line` to a file, which is replaced as a whole. One process at a time may do so."""
    texts = [text for text, _ in _read_lines(path)]  # as they stand
    write_text(path, "".join(f"{text}\n" for text in [*texts, *map(json.dumps, lines)]))


def cost_line(cost: Cost, **labels: Any) -> dict[str, Any]:
    """A cost, and `labels`, which say of what."""
    return labels | {"seconds": round(cost.seconds, 3), "peak_memory_mb": cost.peak_memory_mb}


@dataclass(frozen=True)
class CostLog:
    """Where the costs of a task go. In another process than the experiment's they wait in `lines`, for it to write them."""

    path: Path
    waits: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)

    def append(self, cost: Cost, **labels: Any) -> None:
        if self.waits:
            self.lines.append(cost_line(cost, **labels))
        else:
            append_cost(self.path, cost, **labels)

    def add_recorded(self, cost: Cost, **labels: Any) -> Cost:
        """A cost plus that of the last line with these labels, if there is one."""
        for line in reversed([*(line for _, line in _read_lines(self.path)), *self.lines]):
            if line.items() >= labels.items():
                peaks = [peak for peak in (cost.peak_memory_mb, line["peak_memory_mb"]) if peak is not None]
                return Cost(cost.seconds + line["seconds"], max(peaks, default=None))
        return cost


def summarize_costs(path: Path, task: str) -> dict[str, dict[str, Any]]:
    """By method, of the lines of a task: median seconds per unit of `count`, peak memory, and the number of lines."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for _, line in _read_lines(path):
        if line.get("task") == task and isinstance(line.get("method"), str):
            by_method.setdefault(line["method"], []).append(line)
    summary: dict[str, dict[str, Any]] = {}
    for method, lines in by_method.items():
        seconds = statistics.median(line["seconds"] / line["count"] for line in lines)
        peaks = [line["peak_memory_mb"] for line in lines if line["peak_memory_mb"] is not None]
        summary[method] = {"seconds": round(seconds, 3), "peak_memory_mb": max(peaks, default=None), "measured": len(lines)}
    return summary


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line that records a cost, as text and as a table. Others, such as one that a kill left half written, are ignored."""
    lines = []
    with suppress(OSError, UnreadableError):
        for text in read_lines(path):
            with suppress(UnreadableError):
                table = parse_json(text)
                line: dict[str, Any] = {"peak_memory_mb": None, "count": 1, **table} if isinstance(table, dict) else {}
                numbers: list[Any] = [line.get("seconds"), line.get("count"), line.get("peak_memory_mb") or 0]
                if all(type(number) in (int, float) and number >= 0 for number in numbers) and line["count"]:
                    lines.append((text, line))
    return lines


def _accelerator() -> Any:
    return torch.cuda if torch.cuda.is_available() else None
