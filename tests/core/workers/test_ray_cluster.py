"""A real cluster of three node processes, of which nodes and workers are killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tenth.core.errors import InputError, PhotoError
from tenth.core.workers import ray_cluster, ray_driver
from tenth.core.workers.attempts import Workers
from tenth.core.workers.tasks import run_tasks
from tenth.training.ray_train import train_on_ray
from toy_cluster import RayNodes
from toy_jobs import wait_for
from toy_runners import impossible, odd, process_ids, squares

pytestmark = pytest.mark.slow
ENOUGH = 10_000  # tasks, of a tenth of a second each: a worker takes the place of a lost one long before, on a busy machine too


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    with RayNodes() as nodes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENTH_MODELS", "/nowhere/models")
        yield nodes


def test_all_nodes_work_and_a_lost_node_and_a_lost_worker_cost_only_what_they_did(cluster: RayNodes) -> None:
    results, workers = Counter[int](), set()
    # Until all nodes have worked, and then workers in the place of the lost ones.
    tasks = itertools.takewhile(lambda task: len(workers) < 5 and task < ENOUGH, itertools.count())
    for outcome in run_tasks(partial(process_ids, 0.1), tasks, ray=cluster.address):
        assert outcome.error is None
        assert outcome.result is not None
        results[outcome.task] += 1
        if outcome.worker in workers:
            continue
        # A worker's first result: it lives, as one of a node that was just killed does not for long.
        workers.add(outcome.worker)
        if len(workers) == 3:
            cluster.kill_node(0)
            cluster.add_node()
        elif len(workers) == 4:
            os.kill(outcome.result, signal.SIGKILL)
    assert results == Counter(range(len(results)))
    assert len(workers) >= 5


def test_errors_are_outcomes_and_workers_have_their_settings(cluster: RayNodes, tmp_path: Path) -> None:
    tasks = ("photo", "once", "lock", "death", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "TENTH_MODELS", "torch")
    outcomes = {each.task: each for each in run_tasks(partial(odd, tmp_path), tasks, ray=cluster.address, workers=2)}
    errors = {task: each.error for task, each in outcomes.items() if each.error is not None}
    assert errors.keys() == {"photo", "lock", "death"}
    assert isinstance(errors["photo"], PhotoError)
    assert "pickle" in errors["lock"].found
    assert errors["death"].found.startswith("3 workers died of this task; of the last one: The actor died unexpectedly")
    assert [outcomes[task].attempts for task in ("photo", "once", "death")] == [1, 2, 3]
    assert [outcomes[task].result for task in tasks[4:]] == ["1", "PASSIVE", "/nowhere/models", False]


def test_what_cannot_begin_is_an_error(cluster: RayNodes) -> None:
    with pytest.raises(InputError, match="no model; one is needed"):
        list(run_tasks(impossible, range(3), ray=cluster.address))


def test_no_worker_outlives_the_command(cluster: RayNodes, tmp_path: Path) -> None:
    code = f"from toy_runners import work_for_ever; work_for_ever({str(tmp_path)!r}, 2, {cluster.address!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: len(workers_of(tmp_path)) == 2)
        finally:
            process.kill()
    workers = workers_of(tmp_path)
    wait_for(lambda: not any(map(psutil.pid_exists, workers)))
    assert len(workers) == 2


def workers_of(folder: Path) -> set[int]:
    return {int(path.name.split("-")[0]) for path in folder.iterdir()}


def until_the_head_is_lost(outcomes: Iterator[Any], cluster: RayNodes) -> int:
    """How many tasks ended, if that is no error."""
    ended = sum(outcome.error is None for outcome in itertools.islice(outcomes, 5))
    cluster.kill_head()
    return ended + sum(1 for _ in outcomes)


def test_a_lost_head_is_an_error(cluster: RayNodes) -> None:
    """The last test: nothing is left of the cluster."""
    outcomes = run_tasks(partial(process_ids, 0.1), range(1000), ray=cluster.address)
    with pytest.raises(InputError, match="the connection to the Ray cluster is lost") as raised:
        until_the_head_is_lost(outcomes, cluster)
    assert raised.value.needed == "a cluster is needed whose head lives until the end"
    assert raised.value.action == "Start the cluster again, and give the same command: it goes on where it was"


def test_no_cluster_is_an_error_soon() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*`ray start --head`"):
        list(run_tasks(impossible, range(3), ray="127.0.0.1:1"))


@pytest.mark.parametrize(
    "start",
    [
        lambda folder: list(run_tasks(impossible, range(3), ray="local")),
        lambda folder: train_on_ray(folder / "recipe.toml", folder, "local", 2),
    ],
    ids=["tasks", "training"],
)
def test_a_cluster_that_does_not_start_is_an_error_also_while_ray_holds_pythons_lock(
    start: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It waits in C++ for a node that is held up, as on a machine with too much to do; no thread of Python's runs then."""
    real = ray_driver.start_connected
    monkeypatch.setattr(ray_driver, "start_connected", lambda _, environment: real("toy_runners:held_up", environment))
    with pytest.raises(InputError, match=r"no Ray cluster starts on this machine \(within 60 seconds\); one is needed"):
        start(tmp_path)
    assert capfd.readouterr() == ("", "")


def node(alive: bool, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


def test_a_cluster_without_a_node_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of others may come; a cluster of this machine alone has its one."""
    nodes = [node(False, CPU=8.0), node(True, CPU=2.0)]
    monkeypatch.setattr(ray_cluster, "connect", lambda _: None)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert ray_cluster._Cluster(squares, Workers(2, "auto", threads=4)).room() == 2
    with pytest.raises(InputError, match="no node of the Ray cluster has 4 CPUs and 0 GPUs; a worker needs them"):
        ray_cluster._Cluster(squares, Workers(2, "local", threads=4))
    nodes.pop()
    with pytest.raises(InputError, match=r"the connection to the Ray cluster is lost \(none of its nodes is there any more\)"):
        ray_cluster._Cluster(squares, Workers(2, "auto"))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"Ray is not installed; .* Run `pip install 'tenth\[cluster\]'`"):
        run_tasks(impossible, range(3), ray="local")


@pytest.mark.parametrize(
    "settings", [{"workers": -1}, {"threads": 0}, {"gpus": -0.5}, {"ray": "no address"}, {"ray": "http://localhost:1"}]
)
def test_impossible_workers_are_refused_at_once(settings: dict[str, int | str]) -> None:
    with pytest.raises(InputError, match=r"needed\. Correct"):
        run_tasks(impossible, range(3), **settings)  # type: ignore[arg-type]


def test_room_of_a_node() -> None:
    assert [ray_cluster.room_of({"CPU": 7.0}, Workers(threads=threads)) for threads in (1, 2, 8)] == [7, 3, 0]
    node = {"CPU": 16.0, "GPU": 2.0}
    assert [ray_cluster.room_of(node, Workers(gpus=gpus)) for gpus in (1, 0.5, 2, 4)] == [2, 4, 1, 0]
    assert ray_cluster.room_of({"CPU": 16.0}, Workers(gpus=1)) == 0
