"""How much memory the machine and its accelerator have free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class AvailableMemory:
    """Bytes that a new model may take. gpu: None where torch finds none."""

    cpu: int
    gpu: int | None = None
    capability: tuple[int, int] = (0, 0)


def available_memory() -> AvailableMemory:
    """What is free now: on the CPU, and on the first GPU that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return AvailableMemory(free_memory())
    return AvailableMemory(free_memory(), torch.cuda.mem_get_info()[0], torch.cuda.get_device_capability())


def free_memory(root: Path = Path("/")) -> int:
    """Free bytes, the least of the system's and its control groups'. root: for tests, a folder with `proc` and `sys`."""
    free: int = psutil.virtual_memory().available
    return min([free, *(max(limit - used, 0) for limit, used in _control_groups(root))])


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes that this process may use at most, from the same sources as `free_memory`."""
    total: int = psutil.virtual_memory().total
    return min([total, *(limit for limit, _ in _control_groups(root))])


def _control_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, use) in bytes of each group around this process that has a limit; cached files do not count as used."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        if "memory" in controllers.split(","):  # version 1
            mount, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        elif controllers:
            continue

        # From the process's group up to the mount. In a container the path may be the host's; then only the mount exists.
        limit_file, usage_file, prefix = names
        group = mount / path.strip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(mount))):
            limit, usage = _number(folder / limit_file), _number(folder / usage_file)
            if limit is not None and usage is not None:
                yield limit, max(usage - _cached_bytes(folder / "memory.stat", prefix), 0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max": no limit


def _cached_bytes(path: Path, prefix: str) -> int:
    """Bytes of cached files, which the kernel frees when memory is needed."""
    rows = dict(line.split() for line in _lines(path))
    return sum(int(rows.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
