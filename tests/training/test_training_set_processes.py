"""Real processes on a training set in files: an encoding that is killed, and training by another number of processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fresh import Fresh
from tenth.data.faces.crops import PhotoDataset
from tenth.training.adapter import sharded_encoding
from tenth.training.adapter.sharded_encoding import EncodeOptions, encode_training_set
from tenth.training.checkpoint import load_checkpoint
from toy_encoding import contents, load_toy_networks, write_people

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
BATCH, STEPS = 12, 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    return write_people(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def encoded(data: PhotoDataset, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("encoded") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_encoding, "load_model", load_toy_networks)
        sharded_encoding.load_networks.cache_clear()
        encode_training_set(data, output, str(toy_folder), EncodeOptions(), 1)
    return output


def test_ten_kills_leave_the_bytes_of_an_unbroken_encoding(
    data: PhotoDataset, encoded: Path, toy_folder: Path, fresh: Fresh, tmp_path: Path
) -> None:
    done = fresh.script(TESTS / "killed_encoding.py", data.photos, tmp_path / "set", toy_folder, 10, 3, at=tmp_path)
    assert done.code == 0, done.err
    happened = json.loads(done.out.splitlines()[-1])
    assert (happened["killed"], happened["ended"]) == (10, 0)
    assert happened["found"] == sorted(happened["found"])  # what is finished stays
    assert contents(tmp_path / "set") == contents(encoded)


def fork(fresh: Fresh, processes: int, *given: object) -> None:
    done = fresh.script(TESTS / "encoded_run.py", *given, processes, at=TESTS)
    assert done.code == 0, done.err


def people_seen(directory: Path, processes: int) -> dict[int, list[int]]:
    """The people of each step, over all processes, since it was last asked."""
    logs = list(directory.glob("seen-*.log"))
    assert len(logs) == processes
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    for log in logs:
        log.unlink()
    found: dict[int, list[int]] = {}
    for step, _, people in sorted(lines, key=lambda line: line[:2]):
        found.setdefault(step, []).extend(people)
    return found


def test_one_two_and_three_processes_see_the_same_people_in_the_same_order(
    encoded: Path, toy_folder: Path, fresh: Fresh, tmp_path: Path
) -> None:
    """Also when a run goes on with another number of processes. Those of torchrun are in test_processes.py."""
    for name, processes in (("1", 1), ("2", 2), ("3", 3)):
        (tmp_path / name).mkdir()
        fork(fresh, processes, tmp_path / name, encoded, toy_folder, -1)
    alone = people_seen(tmp_path / "1", 1)
    assert sorted(alone) == list(range(STEPS))
    assert {len(people) for people in alone.values()} == {BATCH}
    assert people_seen(tmp_path / "2", 2) == people_seen(tmp_path / "3", 3) == alone

    # Two processes to step 5, three from the checkpoint at 3 to step 8, and one from that at 6.
    moved = tmp_path / "moved"
    moved.mkdir()
    parts = []
    for processes, steps in ((2, 5), (3, 8), (1, -1)):
        fork(fresh, processes, moved, encoded, toy_folder, steps)
        parts.append(people_seen(moved, processes))
    assert [min(part) for part in parts] == [0, 3, 6]
    assert parts[0] | parts[1] | parts[2] == alone
    weights = [load_checkpoint(directory) for directory in (tmp_path / "1", moved)]
    assert weights[0] is not None
    assert weights[1] is not None
    for name, tensor in weights[0].tensors.items():
        assert (tensor.float() - weights[1].tensors[name].float()).abs().max() < 1e-3
