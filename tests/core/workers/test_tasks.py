from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tenth.core.errors import InputError, PhotoError
from tenth.core.workers.tasks import run_tasks
from toy_runners import environment, failing, impossible, squares

EVERY = pytest.mark.parametrize("workers", [0, 2])


@EVERY
def test_every_task_is_done_once(workers: int) -> None:
    outcomes = list(run_tasks(squares, range(20), workers=workers))
    assert {outcome.task: outcome.result for outcome in outcomes} == {task: task * task for task in range(20)}
    assert len(outcomes) == 20
    assert {(outcome.error, outcome.attempts) for outcome in outcomes} == {(None, 1)}


@EVERY
def test_errors_are_outcomes_and_only_those_of_the_input_at_once(
    workers: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = {each.task: each for each in run_tasks(partial(failing, tmp_path, 1), range(3), workers=workers)}
    assert (outcomes[0].result, outcomes[0].error, outcomes[0].attempts) == (0, None, 2)
    assert (outcomes[2].result, outcomes[2].attempts) == (2, 1)
    error = outcomes[1].error
    assert isinstance(error, PhotoError)
    assert (error.code, error.found, error.action) == ("truncated", "half a photo", "Take it again")
    assert (str(error), outcomes[1].attempts) == ("half a photo; a whole one is needed. Take it again.", 1)
    assert "RuntimeError: out of colors" in capfd.readouterr().err  # also a worker's


@EVERY
def test_a_second_exception_is_the_outcome(workers: int, tmp_path: Path) -> None:
    outcomes = {each.task: each for each in run_tasks(partial(failing, tmp_path, 2), [0, 2], workers=workers)}
    assert outcomes[0].error is not None
    assert outcomes[0].error.found.startswith("RuntimeError: out of colors (toy_runners.py, line ")
    assert (outcomes[0].attempts, outcomes[2].result) == (2, 2)


@EVERY
def test_what_cannot_begin_is_an_error(workers: int) -> None:
    with pytest.raises(InputError, match="no model; one is needed"):
        list(run_tasks(impossible, range(3), workers=workers))


@EVERY
def test_without_tasks_nothing_is_loaded(workers: int) -> None:
    assert list(run_tasks(impossible, [], workers=workers)) == []


def test_workers_are_other_processes_with_their_own_threads() -> None:
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "torch")
    outcomes = run_tasks(partial(environment, *names[:2]), names, workers=1, threads=3)
    assert {outcome.task: outcome.result for outcome in outcomes} == dict(zip(names, ("3", "PASSIVE", "False"), strict=True))
