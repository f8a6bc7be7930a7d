"""`tenth benchmark rate` as a process: it is killed, goes on, ends, and says the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tenth.cli.main import main
from tenth.experiments.rating.choices import CHOICES_FILE
from toy_rating import rated_folders

Output = pytest.CaptureFixture[str]
PAIRS = 6


@contextmanager
def rating(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The command in a folder with "one", "two" and "tasks", at a free port; its client."""
    command = [sys.executable, "-m", "tenth.cli", "benchmark", "rate", "one", "two", "--tasks", "tasks", "--pairs", str(PAIRS)]
    process = subprocess.Popen(
        [*command, "--port", "0", "-o", "out", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline().strip()
        assert said.startswith("http://127.0.0.1:"), said + process.stderr.read()
        with httpx.Client(base_url=said, trust_env=False, timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_rating_loses_no_choice_and_goes_on(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    rated_folders(tmp_path)
    with rating(tmp_path) as (process, client):
        for index in range(2):
            assert client.put(f"v1/rating/{index}", json={"choice": "left"}).json()["chosen"] == index + 1
        process.kill()
    assert len((tmp_path / "out" / CHOICES_FILE).read_text().splitlines()) == 2

    # The same command goes on. Only its end says the result.
    with rating(tmp_path, "--json") as (process, client):
        assert client.get("v1/rating").json()["index"] == 2
        for index in range(2, PAIRS):
            assert client.put(f"v1/rating/{index}", json={"choice": "tie"}).status_code == 200
        assert client.post("v1/rating/end").status_code == 204
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "6 of 6 pairs are chosen, in out" in stderr
    result = json.loads(stdout)
    assert (result["system"], result["ties"], sum(result["wins"])) == ("one", 4, 2)

    # Said again, without a server, and in text.
    monkeypatch.chdir(tmp_path)
    words = ["benchmark", "rate", "one", "two", "--tasks", "tasks", "--pairs", str(PAIRS), "-o", "out", "--result"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"win rate {result['win_rate']['value']:.3f} [" in said
    assert "ties 4, which count half" in said


def test_a_result_without_choices_makes_nothing(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    rated_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "rate", "one", "two", "--tasks", "tasks", "--result"]) == 1
    assert "runs/rating-one-two has no choices" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
