"""Workers on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tenth.core.workers.attempts import Outcome, R, T, Workers


def run_on_ray(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T], wanted: Workers) -> Iterator[Outcome[T, R]]:
    """As `run_tasks`, by actors on all nodes of a Ray cluster."""
    raise NotImplementedError
