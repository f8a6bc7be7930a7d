"""Real processes, killed at real moments."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tenth.core.errors import InputError
from tenth.core.workers.local_workers import gpu_environment
from tenth.core.workers.tasks import run_tasks
from toy_jobs import PYTHONPATH, wait_for
from toy_runners import broken, deadly, process_ids, squares, stillborn, unsendable

pytestmark = pytest.mark.slow
GPUS = [
    *[(1, 0, "", "0"), (1, 3, "", "3"), (1, 1, "4,6", "6"), (2, 1, "", "2,3")],
    *[(0.5, 0, "", "0"), (0.5, 1, "", "0"), (0.5, 2, "", "1")],
]


@contextmanager
def endless(folder: Path, workers: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose workers have begun."""
    folder.mkdir()
    heeds = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also where the tests run in the background
    )
    called = f"work_for_ever(Path({str(folder)!r}), {workers}, '')"
    code = f"{heeds}; from pathlib import Path; from toy_runners import work_for_ever; {called}"
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: len(workers_of(folder)) == workers)
            yield process
        finally:
            process.kill()


def workers_of(folder: Path) -> set[int]:
    """The processes that have begun a task."""
    return {int(path.name.split("-")[0]) for path in folder.iterdir()}


def test_a_killed_worker_costs_only_what_it_did(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = {each.task: each for each in run_tasks(partial(deadly, tmp_path, 2), range(6), workers=2)}
    assert {task: each.result for task, each in outcomes.items()} == {task: task for task in range(6)}
    assert {task: each.attempts for task, each in outcomes.items()} == {0: 3} | dict.fromkeys(range(1, 6), 1)
    assert capfd.readouterr().err.count("it was killed (SIGKILL)") == 2


def test_a_task_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    outcomes = {each.task: each for each in run_tasks(partial(deadly, tmp_path, 9), range(6), workers=2)}
    error = outcomes.pop(0).error
    assert error is not None
    assert (
        error.found
        == "3 workers died of this task; of the last one: it was killed (SIGKILL), as the system does when memory runs out"
    )
    assert len(list(tmp_path.iterdir())) == 3
    assert [each.result for each in outcomes.values()] == [each.task for each in outcomes.values()]


def test_workers_killed_from_outside_cost_nothing() -> None:
    results: Counter[int] = Counter()
    for outcome in run_tasks(partial(process_ids, 0.01), range(200), workers=2):
        assert outcome.error is None
        results[outcome.task] += 1
        if outcome.task in (20, 90):
            os.kill(outcome.result, signal.SIGKILL)
    assert results == Counter(range(200))


def test_workers_that_cannot_begin_are_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="4 workers in a row died before they could begin; of the last one: it was killed"):
        list(run_tasks(stillborn, range(3), workers=1))
    with pytest.raises(InputError, match=r"RuntimeError: no such color \(toy_runners.py, line"):
        list(run_tasks(broken, range(3), workers=2))
    assert "RuntimeError: no such color" in capfd.readouterr().err


def test_a_result_that_cannot_be_sent_is_an_error() -> None:
    outcomes = {each.task: each for each in run_tasks(unsendable, range(3), workers=1)}
    assert outcomes[0].error is not None
    assert "cannot pickle" in outcomes[0].error.found
    assert [outcomes[task].result for task in (1, 2)] == [1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_tasks_are_read_as_they_are_needed(workers: int) -> None:
    read: list[int] = []

    def tasks() -> Iterator[int]:
        for task in itertools.count():
            read.append(task)
            yield task

    ahead = [len(read) - ended for ended, _ in zip(range(50), run_tasks(squares, tasks(), workers=workers), strict=False)]
    assert len(ahead) == 50
    assert max(ahead) <= max(1, 2 * workers)


def test_one_that_stops_listening_ends_the_workers(tmp_path: Path) -> None:
    outcomes = run_tasks(process_ids, range(100), workers=2)
    process = next(outcomes).result
    assert process is not None
    assert psutil.pid_exists(process)
    outcomes.close()
    assert not psutil.pid_exists(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_who_started_it(tmp_path: Path, number: signal.Signals) -> None:
    with endless(tmp_path / "log") as process:
        process.send_signal(number)
        process.wait(20)
        wait_for(lambda: not any(map(psutil.pid_exists, workers_of(tmp_path / "log"))))
    assert process.returncode == -number or number == signal.SIGINT


@pytest.mark.parametrize(("tasks", "workers"), [(100_000, 0), (20_000, 1)])
def test_many_tasks_take_no_memory(tasks: int, workers: int) -> None:
    code = f"from toy_runners import memory_of_many; memory_of_many({tasks}, {workers})"
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    after_a_hundredth, at_the_end = map(int, done.stdout.split())
    assert at_the_end - after_a_hundredth < 1 << 20


@pytest.mark.parametrize(("gpus", "place", "known", "found"), GPUS)
def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch, gpus: float, place: int, known: str, found: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", known)
    assert gpu_environment(gpus, place) == {"CUDA_VISIBLE_DEVICES": found}
    assert gpu_environment(0, place) == {}
