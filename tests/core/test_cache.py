from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tenth.core.cache import Array, ArrayCache, default_cache_dir


def test_computed_once_and_in_order(tmp_path: Path) -> None:
    store, asked = ArrayCache(tmp_path), []

    def compute(missing: list[int]) -> list[Array]:
        asked.append(missing)
        return [np.full(2, index) for index in missing]

    assert store.get_or_compute_stacked("s", ["aa1", "bb2"], compute).tolist() == [[0, 0], [1, 1]]
    assert store.get_or_compute_stacked("s", ["aa1", "cc3", "bb2"], compute).tolist() == [[0, 0], [1, 1], [1, 1]]
    assert asked == [[0, 1], [1]]


def test_spaces_do_not_mix(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("one", "key", np.ones(1))
    assert store.read("other", "key") is None


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("s", "key", np.ones(100))
    path = store.path("s", "key")
    path.write_bytes(path.read_bytes()[:50])
    assert store.read("s", "key") is None
    assert next(store.get_or_compute("s", ["key"], lambda _: [np.zeros(3)])).tolist() == [0, 0, 0]


def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("s", "key", np.arange(4.0))
    path = store.path("s", "key")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert store.read("s", "key") is None, place
    path.write_bytes(whole)
    assert np.array_equal(store.read("s", "key"), np.arange(4.0))


def test_an_entry_is_that_of_its_place(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("s", "one", np.ones(1))
    for space, key in (("s", "two"), ("other", "one")):
        store.path(space, key).parent.mkdir(parents=True, exist_ok=True)
        store.path(space, key).write_bytes(store.path("s", "one").read_bytes())
        assert store.read(space, key) is None
    for space, key in (("../../s", "../../../key"), ("/s", "/key"), ("s", ".."), ("s\0", "key\0")):
        store.write(space, key, np.ones(1))
        assert store.path(space, key).resolve().is_relative_to(tmp_path)
        assert store.read(space, key) is not None


def test_entries_of_several_shapes_are_computed_again(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("s", "one", np.ones(3))
    found = store.get_or_compute_stacked("s", ["one", "two"], lambda missing: [np.full(2, float(index)) for index in missing])
    assert found.tolist() == [[0, 0], [1, 1]]
    assert store.get_or_compute_stacked("s", ["one", "two"], lambda _: []).tolist() == [[0, 0], [1, 1]]


def test_a_store_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for directory, found in ((tmp_path / "file" / "in", "Not a directory"), (tmp_path / "full", "No space left on device")):
        if directory.name == "full":
            monkeypatch.setattr(os, "fsync", full)
        store = ArrayCache(directory)
        for _ in range(2):
            assert store.get_or_compute_stacked("s", ["one", "two"], lambda missing: [np.ones(2) for _ in missing]).shape == (
                2,
                2,
            )
        told = capsys.readouterr().err
        assert found in told
        assert told.count("\n") == 1, told


def test_what_lies_in_an_entry_s_place_is_not_waited_for(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.path("s", "key").parent.mkdir(parents=True)
    os.mkfifo(store.path("s", "key"))
    assert store.read("s", "key") is None
    assert next(store.get_or_compute("s", ["key"], lambda _: [np.zeros(3)])).tolist() == [0, 0, 0]


def test_pickles_are_not_read(tmp_path: Path) -> None:
    store = ArrayCache(tmp_path)
    store.write("s", "key", np.ones(1))
    np.save(store.path("s", "key"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert store.read("s", "key") is None


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.save", broken)
    with pytest.raises(KeyboardInterrupt):
        ArrayCache(tmp_path).write("s", "key", np.ones(1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_store_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"
    monkeypatch.delenv("TENTH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "tenth"
