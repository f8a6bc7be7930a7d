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
    """What is free now: on the CPU, and on the first GPU that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return AvailableMemory(free_memory())
    return AvailableMemory(free_memory(), torch.cuda.mem_get_info()[0], torch.cuda.get_device_capability())


def free_memory(root: Path = Path("/")) -> int | None:
    """Free bytes for this process: the least of the system's and of each control group's around it. None where unknown.

    root: for tests, a folder that contains `proc` and `sys`.
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
    """Free bytes of each group from `path` up to the mount: limit minus use; cached files do not count as used.

    In a container the path may be the host's; then the mount itself is the group.
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
    """Bytes of cached files, which the kernel frees when memory is needed."""
    rows = dict(line.split() for line in _lines(path))
    return sum(int(rows.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
