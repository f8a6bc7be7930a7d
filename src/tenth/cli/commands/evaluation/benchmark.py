"""`tenth benchmark`: the tasks for any system, and the scores of the images that it made."""

from __future__ import annotations

from tenth.core.console import print_message


def benchmark() -> None:
    """Compare any systems on several photos of one person: export the tasks, score what was made of them."""


def benchmark_export() -> int:
    """Write the tasks."""
    print_message("being written")
    return 0
