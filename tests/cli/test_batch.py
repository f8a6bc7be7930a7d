"""`tenth batch` as a command: what it prints, its exit codes, and that it survives being killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fresh import Fresh
from tenth.cli.main import main
from tenth.experiments.batch import run
from toy_batch import make_stub, write_plan

KILLED = Path(__file__).parents[1] / "killed_batch.py"
Output = pytest.CaptureFixture[str]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "make_model_drawer", make_stub)
    monkeypatch.chdir(tmp_path)


def batch(*words: str) -> int:
    return main(["batch", "plan.jsonl", "-o", "out", "--rows-per-shard", "10", *words])


def test_a_batch_says_what_it_drew(stub: None, capsys: Output) -> None:
    write_plan(Path("plan.jsonl"), 3, 5)
    assert batch("--json") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said.pop("seconds") >= 0
    expected = {"output": "out", "images": 15, "shards": 2, "bad_rows": 0, "duplicates": 0, "redrawn_shards": 0}
    assert said == expected
    assert batch() == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("15 images in 2 shards, ")
    assert "15/15" in printed.err


def test_bad_rows_and_damage_are_told(stub: None, capsys: Output) -> None:
    write_plan(Path("plan.jsonl"), 3, 5, bad=1)
    with Path("plan.jsonl").open("a") as file:
        file.write("nonsense\n")
    assert batch() == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("10 images in 2 shards, ")
    assert "bad row: plan.jsonl, row 16: it is not JSON" in printed.err
    assert "bad row: people/nobody00000 does not exist; photos are needed. Add some." in printed.err
    assert "5 rows without an image: batch.json has them; the same command tries these again" in printed.err
    Path("out/shards/00001.tar").write_bytes(b"")
    assert batch() == 1
    assert "shards/00001.tar is not as it was written: shard 00001 was drawn again" in capsys.readouterr().err


def test_another_plan_is_refused(stub: None, capsys: Output) -> None:
    write_plan(Path("plan.jsonl"), 3, 5)
    assert batch() == 0
    write_plan(Path("plan.jsonl"), 4, 5)
    assert batch() == 1
    assert "holds another plan; a place holds one batch" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_any_moment_every_row_comes_once(fresh: Fresh, tmp_path: Path) -> None:
    """The same with more: `python tests/killed_batch.py DIR 20000 30 SEED`."""
    done = fresh.script(KILLED, tmp_path / "work", 200, 4, 2, at=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert sum(found.pop("killed").values()) == 4
    assert found == {"images": 200, "each once": True, "other": []}
