"""Real processes of five commands, killed and failed at drawn moments: the small form of killed_commands.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "killed_commands.py"
COMMANDS = ("generate", "identity", "experiment", "demo", "train")


def test_killed_or_on_a_full_disk_they_go_on_and_end_with_the_same_bytes(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(SCRIPT.parents[1] / "src"), str(SCRIPT.parent)])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "work"), "2", "1", "3"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["command"] for each in found] == list(COMMANDS)
    for each in found:
        assert (each["killed"], each["failed"], each["survived"], each["at once"], each["lost"]) == (2, 1, 1, 1, 0)
        assert 0 < each["writing"] < each["moments"]
