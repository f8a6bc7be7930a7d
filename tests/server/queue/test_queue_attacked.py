"""Workers and their supervisor killed at random moments, and many workers at once.

More of both: `python tests/killed_server_queue.py DIR 100 50 0`, `python tests/queue_of_many.py DIR 10000 8`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from house_source import ROOT
from tally import SEED
from toy_jobs import PYTHONPATH

pytestmark = pytest.mark.slow


def run(script: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """The last line that a script prints, and what it says besides."""
    command = [sys.executable, str(ROOT / "tests" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result, done.stderr


def test_all_pictures_exist_once_and_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    result, said = run("killed_server_queue.py", str(tmp_path), "16", "4", str(SEED))
    assert sum(result["killed"].values()) == 4
    assert result["unfinished after the last"] > 0  # they were killed while there was work
    assert (result["falsely done"], result["each once"], result["same"]) == (0, True, True)
    assert (result["jobs"], result["pictures"], result["other files"]) == (16, 24, 0)
    assert "Error" not in said


def test_each_job_is_done_once_however_many_workers_there_are(tmp_path: Path) -> None:
    result, said = run("queue_of_many.py", str(tmp_path), "300", "4")
    assert (result["done at the first attempt"], result["each once"], result["own result"]) == (300, True, True)
    assert (result["codes"], said) == ([0] * 4, "")
