"""Progress on stderr in plain words, and none from workers."""

from __future__ import annotations

from functools import partial

import pytest

from tenth.core import console
from tenth.core.workers.tasks import run_tasks
from toy_runners import environment


def test_items_without_a_number_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tqdm = console.tqdm
    monkeypatch.setattr(console, "tqdm", lambda items, **how: tqdm(items, **how | {"delay": 0, "mininterval": 0}))
    assert list(console.track(iter("abc"), "people", "person")) == ["a", "b", "c"]
    assert "people: 3 in 00:0" in (said := capsys.readouterr().err)
    assert "it" not in said
    assert list(console.track("abc", "photos", "photo")) == ["a", "b", "c"]
    assert "3/3 [" in (said := capsys.readouterr().err)
    assert "photo/s]" in said


def test_workers_show_no_bar_of_their_own() -> None:
    (outcome,) = run_tasks(partial(environment, "TQDM_DISABLE"), ["TQDM_DISABLE"], workers=1)
    assert outcome.result == "1"
