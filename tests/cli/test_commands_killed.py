"""Real processes of six commands, killed and failed at drawn moments: the small form of killed_commands.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fresh import Fresh

pytestmark = pytest.mark.slow

ROWS = Path(__file__).parents[1] / "killed_rows.py"
SCRIPT = Path(__file__).parents[1] / "killed_commands.py"
COMMANDS = ("generate", "candidates", "grid", "identity", "experiment", "demo", "train")


def test_killed_or_on_a_full_disk_they_go_on_and_end_with_the_same_bytes(fresh: Fresh, tmp_path: Path) -> None:
    done = fresh.loaded.script(SCRIPT, tmp_path / "work", 2, 1, 3, at=tmp_path)
    assert done.code == 0, done.err
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [each["command"] for each in found] == list(COMMANDS)
    for each in found:
        assert (each["killed"], each["failed"], each["survived"], each["at once"], each["lost"]) == (2, 1, 1, 1, 0)
        assert 0 < each["writing"] < each["moments"]


def test_a_file_of_prompts_killed_ten_times_gives_every_row_once(fresh: Fresh, tmp_path: Path) -> None:
    """The same with 1,000 rows: `python tests/killed_rows.py DIR 1000 10 SEED`."""
    done = fresh.loaded.script(ROWS, tmp_path / "work", 60, 10, 5, at=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert 0 < found.pop("kept") < 60
    assert found == {"killed": 10, "images": 60, "as asked": True, "same": True}
