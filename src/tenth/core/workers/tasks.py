"""Runs tasks in this process, in several on this machine, or on a Ray cluster, and says what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tenth.core.workers.attempts import Attempts, Outcome, R, T, Workers, attempt, process_name

__all__ = ["Outcome", "run_tasks"]


def run_tasks(
    make_runner: Callable[[], Callable[[T], R]],
    tasks: Iterable[T],
    *,
    workers: int = 0,
    ray: str = "",
    threads: int = 1,
    gpus: float = 0,
) -> Iterator[Outcome[T, R]]:
    """Iterator over what becomes of the tasks, in the order in which they end.

    make_runner: called once in each worker, for what does its tasks; a function of a module, or a partial of one. tasks: read
    as they are needed, so memory does not grow with their number; they and the results travel between processes.
    workers: 0, this process does the tasks one after the other; else that many processes on this machine. ray: "auto", "local"
    or "HOST:PORT" of a Ray cluster, whose nodes each get as many workers as they have room for, or `workers` in all.
    threads, gpus: of each worker.

    A worker that dies costs only what it was doing, which another does; a task has failed that takes MAX_LOSSES with it.
    An InputError that a runner raises is the task's outcome; any other exception is, when it comes a second time. So a task may
    be begun more than once. The workers end with the iterator, and with this process, however it ends.
    Raises InputError for impossible numbers and what `make_runner` raises as one, if workers cannot begin, or if Ray is not
    installed, not there, or its head is lost.
    """
    wanted = Workers(workers, ray, threads, gpus)
    if wanted.ray:
        from tenth.core.workers.ray_cluster import run_on_ray

        return run_on_ray(make_runner, tasks, wanted)
    if wanted.workers:
        from tenth.core.workers.local_workers import run_locally

        return run_locally(make_runner, tasks, wanted)
    return _run_here(make_runner, tasks)


def _run_here(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
    runner, worker = None, process_name()
    for task in tasks:
        runner = runner or make_runner()
        attempts, outcome = Attempts[T, R](task), None
        while outcome is None:
            outcome = attempts.after(attempt(runner, task), worker)
        yield outcome
