"""Nothing leaves the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.mark.slow
def test_a_server_needs_and_asks_for_no_network(tmp_path: Path) -> None:
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"this system lets no user make a network namespace ({problem})")
    paths = os.pathsep.join(str(folder) for folder in (TESTS.parent / "src", TESTS))
    command = [*NAMESPACE, sys.executable, str(TESTS / "offline_server.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert not result["route"]
    assert result["statuses"] == [200, 200]
    assert [verdict["code"] for verdict in result["verdicts"]] == ["ok"] * 3
    job = result["job"]
    assert (job["status"], job["error"], len(job["picture_bytes"])) == ("done", None, 1)
    assert job["picture_bytes"][0] > 1000
    assert any("quixotic" in note for note in job["notes"])  # a word that the model does not know, as the command line says it
    assert result["processes"] >= 4  # the server, the child that opens photos, a worker, the catalog: each was watched
    assert result["asked"] == []
