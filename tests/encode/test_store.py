from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenth.encode.store import Array, Store, default_store


def test_computed_once_and_in_order(tmp_path: Path) -> None:
    store, asked = Store(tmp_path), []

    def compute(missing: list[int]) -> list[Array]:
        asked.append(missing)
        return [np.full(2, index) for index in missing]

    assert store.remember_all("s", ["aa1", "bb2"], compute).tolist() == [[0, 0], [1, 1]]
    assert store.remember_all("s", ["aa1", "cc3", "bb2"], compute).tolist() == [[0, 0], [1, 1], [1, 1]]
    assert asked == [[0, 1], [1]]


def test_spaces_do_not_mix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("one", "key", np.ones(1))
    assert store.read("other", "key") is None


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("s", "key", np.ones(100))
    path = store.path("s", "key")
    path.write_bytes(path.read_bytes()[:50])
    assert store.read("s", "key") is None
    assert next(store.remember("s", ["key"], lambda _: [np.zeros(3)])).tolist() == [0, 0, 0]


def test_pickles_are_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("s", "key", np.ones(1))
    np.save(store.path("s", "key"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert store.read("s", "key") is None


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.save", broken)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).write("s", "key", np.ones(1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_store_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENTH_STORE", str(tmp_path / "here"))
    assert default_store() == tmp_path / "here"
    monkeypatch.delenv("TENTH_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_store() == tmp_path / "tenth"
