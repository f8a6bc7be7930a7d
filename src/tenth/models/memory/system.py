"""How much memory the machine and its accelerator have free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AvailableMemory:
    """Bytes that a new model may take; None where nothing says it. gpu: None where torch finds none."""

    cpu: int | None
    gpu: int | None = None
    capability: tuple[int, int] = (0, 0)


def available_memory() -> AvailableMemory:
    """What is free now, on the CPU and on the first GPU that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return AvailableMemory(free_memory())
    return AvailableMemory(free_memory(), torch.cuda.mem_get_info()[0], torch.cuda.get_device_capability())


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that new work may take: the least of what the system and every control group around this process leave.

    None where neither says it. root: for a test, a folder with a `proc` and a `sys` of its own.
    """
    available = [line for line in _lines(root / "proc/meminfo") if line.startswith("MemAvailable:")]
    found = [int(line.split()[1]) * 1024 for line in available]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _cgroup_free_bytes(root / "sys/fs/cgroup", path, ("memory.max", "memory.current", ""))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            found += _cgroup_free_bytes(root / "sys/fs/cgroup/memory", path, names)
    return min(found, default=None)


def _cgroup_free_bytes(mount: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """What each group from `path` up to the mount leaves: its limit less its use, files in the cache not counted as used.

    In a container the path may be the host's: then the mount itself is the group.
    """
    limit, usage, prefix = names
    inner = mount / path.strip("/")
    groups = [inner, *(parent for parent in inner.parents if parent.is_relative_to(mount))]
    left = []
    for group in groups:
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            left.append(max(most - max(used - _cached_bytes(group / "memory.stat", prefix), 0), 0))
    return left


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None  # "max": no limit


def _cached_bytes(path: Path, prefix: str) -> int:
    """Bytes of files in the cache, which the kernel gives up when memory is asked for."""
    rows = dict(line.split() for line in _lines(path))
    return sum(int(rows.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
