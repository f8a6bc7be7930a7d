"""Files of a batch in folders and in object stores: whole or not there, also where requests fail half way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import toy_batch  # noqa: F401 - so that workers find it by its name
from tenth.core.errors import CheckpointError, DataError
from tenth.core.workers.attempts import Workers
from tenth.experiments.batch import store as store_module
from tenth.experiments.batch.run import BatchResult, BatchSettings, run_batch
from tenth.experiments.batch.shards import iterate_samples, read_shard_rows, shard_file
from tenth.experiments.batch.store import ObjectStore, Store, open_store, sha256_in
from toy_batch import StubDrawer, write_plan
from toy_object_store import object_store

SETTINGS = BatchSettings(rows_per_shard=20)
FILES = [*(shard_file(index, suffix) for index in range(3) for suffix in ("tar", "json")), "plan.json", "rows/00001.jsonl"]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture(params=["folder", "memory", "http"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "out"))
    elif request.param == "memory":
        yield open_store("memory://out")
        fsspec.filesystem("memory").store.clear()
    else:
        with object_store() as address:
            yield open_store(address)


def put(store: Store, name: str, content: bytes) -> None:
    with store.writing(name) as file:
        file.write(content)


def fail_half_way(store: Store, name: str) -> None:
    with store.writing(name) as file:
        file.write(b"half")
        raise KeyError


def test_files_are_whole_or_not_there(store: Store) -> None:
    assert (store.names(), store.names("shards"), store.size("shards/a")) == (set(), set(), None)
    for reading in (store.read, lambda name: sha256_in(store, name)):
        with pytest.raises(FileNotFoundError):
            reading("shards/a")
    with pytest.raises(KeyError):
        fail_half_way(store, "shards/a")
    assert store.size("shards/a") is None
    put(store, "shards/a", b"one")
    put(store, "shards/a", b"another")
    with pytest.raises(KeyError):
        fail_half_way(store, "shards/a")
    assert (store.read("shards/a"), store.size("shards/a")) == (b"another", 7)
    with store.open("shards/a") as file:
        assert file.read() == b"another"
    assert (store.names(), store.names("shards")) == ({"shards"}, {"a"})
    with pytest.raises(DataError, match="has 7 bytes"):
        store.read("shards/a", 6)


def test_what_is_there_is_not_created_again(store: Store) -> None:
    assert store.create("a", b"one")
    assert store.create("a", b"another") is False
    assert store.read("a") == b"one"
    store.remove("a")
    store.remove("a")
    assert store.create("a", b"another")
    assert store.read("a") == b"another"


def test_a_store_goes_to_another_process_by_its_address(store: Store) -> None:
    if not store.address.startswith("memory"):
        put(store, "a", b"one")
        assert pickle.loads(pickle.dumps(store)).read("a") == b"one"  # noqa: S301 - our own
    assert open_store(store.address).address == store.address


@pytest.mark.parametrize("address", ["nonsense://somewhere/out", "s3://bucket/faces"])
def test_an_address_that_nothing_opens_is_refused(address: str) -> None:
    with pytest.raises(DataError, match=f"{address} cannot be opened"):
        open_store(address)


def run(path: Path, address: str, **more: Any) -> BatchResult:
    return run_batch(path, address, SETTINGS, make_drawer=StubDrawer, **more)


def digest(store: Store) -> Any:
    return json.loads(store.read("batch.json"))["results"]["sha256"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """A plan of 50 rows, and the store of a folder where it was drawn."""
    folder = tmp_path_factory.mktemp("local")
    path = write_plan(folder / "plan.jsonl", 10, 5)
    run(path, str(folder / "out"))
    return path, open_store(str(folder / "out"))


def test_a_store_holds_what_a_folder_holds(local: tuple[Path, Store]) -> None:
    for address in ("memory://faces/of/people", f"file://{local[1].address}-2"):
        run(local[0], address)
        store = open_store(address)
        assert [sha256_in(store, name) for name in FILES] == [sha256_in(local[1], name) for name in FILES]
        assert [row.id for row, _, _ in iterate_samples(store, 1)] == [row.id for row in read_shard_rows(store, 1)]
        assert digest(store) == digest(local[1])
    other = write_plan(local[0].with_name("other.jsonl"), 3, 3)
    with pytest.raises(CheckpointError, match="holds another plan"):
        run(other, "memory://faces/of/people")
    fsspec.filesystem("memory").rm("/faces", recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_requests_that_fail_cost_nothing(seed: int, local: tuple[Path, Store], hurried: None) -> None:
    """One in ten is refused, cut off before or after it is done, late or answered in part; the store's clock is a day wrong."""
    with object_store(seed, 100) as address:
        assert run(local[0], address).pictures == 50
        store = open_store(address)
        assert [sha256_in(store, name) for name in FILES] == [sha256_in(local[1], name) for name in FILES]
        assert digest(store) == digest(local[1])

        # Objects that were changed in the store.
        damaged = bytearray(store.read(shard_file(0, "tar")))
        damaged[len(damaged) // 2] ^= 1
        put(store, shard_file(0, "tar"), bytes(damaged))
        put(store, shard_file(1, "tar"), store.read(shard_file(1, "tar"))[:-512])
        store.remove(shard_file(2, "json"))
        assert run(local[0], address).redrawn == 3
        assert [sha256_in(store, name) for name in FILES] == [sha256_in(local[1], name) for name in FILES]


@pytest.mark.slow
def test_workers_write_to_a_store_by_themselves(local: tuple[Path, Store]) -> None:
    with object_store() as address:
        run(local[0], address, workers=Workers(2))
        assert digest(open_store(address)) == digest(local[1])
        assert run(local[0], address, workers=Workers(1)).redrawn == 0


def test_a_store_that_answers_no_more_is_an_error(local: tuple[Path, Store], hurried: None) -> None:
    with object_store() as address:
        pass
    with pytest.raises(DataError, match=f"{address} does not .*; a store that answers is needed. Look after"):
        run(local[0], address)
    with object_store(0, 1_000) as address, pytest.raises(DataError, match="does not"):
        run(local[0], address)


def test_a_put_whose_answer_was_lost_is_done(monkeypatch: pytest.MonkeyPatch, hurried: None) -> None:
    store = ObjectStore("memory://lost")
    put_file = store.files.pipe_file
    lost = iter([True])

    def losing(path: str, content: bytes, **more: Any) -> None:
        put_file(path, content, **more)
        if next(lost, False):
            raise TimeoutError

    monkeypatch.setattr(store.files, "pipe_file", losing)
    assert store.create("done", b"mine")
    assert store.create("done", b"other") is False
    fsspec.filesystem("memory").rm("/lost", recursive=True)
