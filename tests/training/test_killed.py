"""Real processes, really killed: a run resumed any number of times equals an unbroken one, to the last bit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from fresh import Fresh
from tenth.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "killed_run.py"


def run(fresh: Fresh, directory: Path, kills: int) -> dict[str, int]:
    done = fresh.script(SCRIPT, directory, kills, 5, at=directory.parent)
    assert done.code == 0, done.err
    result: dict[str, int] = json.loads(done.out.splitlines()[-1])
    return result


def seen(directory: Path) -> Counter[int]:
    """How often each item was seen by the steps that count: of a step that was done again, the last time."""
    lines = [json.loads(line) for line in (directory / "seen.log").read_text().splitlines()]
    return Counter(item for items in dict(lines).values() for item in items)


def test_twenty_kills_change_nothing(fresh: Fresh, tmp_path: Path) -> None:
    assert run(fresh, tmp_path / "unbroken", 0) == {"killed": 0, "saving": 0, "ended": 0}
    broken = run(fresh, tmp_path / "broken", 20)
    assert (broken["killed"], broken["ended"]) == (20, 0)
    assert broken["saving"] > 0  # some were killed inside a save
    one, two = (load_checkpoint(tmp_path / name) for name in ("unbroken", "broken"))
    assert one is not None
    assert two is not None
    assert one.step == two.step == 200
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())
    assert seen(tmp_path / "unbroken") == seen(tmp_path / "broken")
    assert set(seen(tmp_path / "broken").values()) == {43, 44}  # 1600 images of 37 items
