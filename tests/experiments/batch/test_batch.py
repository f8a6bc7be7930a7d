"""A batch drawn by a stub: shards of equal bytes by whatever workers, damage found, bad rows alone, a full disk said."""

from __future__ import annotations

import json
import re
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import CheckpointError, DataError
from tenth.core.workers.attempts import Workers
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.run import BatchProgress, BatchResult, BatchSettings, run_batch
from tenth.experiments.batch.shards import DrawnRow, finished, iterate_samples, read_shard_rows
from tenth.experiments.batch.store import open_store
from toy_batch import StubDrawer, tiny_png, write_plan

SETTINGS = BatchSettings(rows_per_shard=20)
WEBDATASET_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # as its reader divides a name into key and suffix


def run(path: Path, out: Path, **more: Any) -> BatchResult:
    return run_batch(path, str(out), SETTINGS, **{"make_drawer": StubDrawer, **more})


def contents(out: Path) -> dict[str, bytes]:
    """Every file but what says how long it took."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.endswith((".done", "batch.json"))}


def record(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "batch.json").read_text())["results"]
    return {key: value for key, value in results.items() if key != "seconds"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plan of 70 rows, and where it was drawn."""
    folder = tmp_path_factory.mktemp("batch")
    path = write_plan(folder / "plan.jsonl", 14, 5, bad=1)
    run(path, folder / "out")
    return path, folder / "out"


@pytest.fixture
def drawn(undisturbed: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A batch of a test's own."""
    run(undisturbed[0], tmp_path / "out")
    return undisturbed[0], tmp_path / "out"


def test_a_shard_has_the_layout_of_webdataset(undisturbed: tuple[Path, Path]) -> None:
    store, ids = open_store(str(undisturbed[1])), []
    for index in range(4):
        with tarfile.open(undisturbed[1] / f"shards/{index:05d}.tar") as tar:
            members = tar.getmembers()
            samples = {entry.name: tar.extractfile(entry).read() for entry in members}  # type: ignore[union-attr]
        assert {(entry.mtime, entry.uid, entry.uname, entry.mode) for entry in members} == {(0, 0, "", 0o644)}
        keys = [match[1] for match in map(WEBDATASET_NAME.fullmatch, samples) if match]
        assert keys[::2] == keys[1::2]  # what belongs to a picture lies side by side
        for key in keys[::2]:
            said = json.loads(samples[f"{key}.json"])
            assert said["id"] == key
            assert said["sha256"] == sha256(samples[f"{key}.png"]).hexdigest()
            assert samples[f"{key}.png"] == tiny_png(key)
        rows = [row.id for row in read_shard_rows(store, index) if "nobody" not in row.person]
        assert keys[::2] == rows
        ids += rows
        assert [(row.id, said["row"]["prompt"]) for row, _, said in iterate_samples(store, index)] == [
            (row.id, row.prompt) for row in read_shard_rows(store, index) if row.id in rows
        ]
    assert len(set(ids)) == 65


def test_bad_rows_are_listed(undisturbed: tuple[Path, Path]) -> None:
    results = record(undisturbed[1])
    assert (results["pictures"], results["bad_rows"], results["shards"]) == (65, 5, 4)
    assert {row["person"] for row in results["first_bad_rows"]} == {"people/nobody00000"}
    assert results["first_bad_rows"][0]["error"]["needed"] == "photos are needed"
    seconds = json.loads((undisturbed[1] / "batch.json").read_text())["results"]["seconds"]
    of_shards = [json.loads(path.read_text())["seconds"] for path in (undisturbed[1] / "shards").glob("*.done")]
    assert seconds == pytest.approx(sum(of_shards), abs=1e-3)  # of all workers together: docs/scale.md


@pytest.mark.slow
def test_workers_give_the_same_bytes(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = undisturbed
    seen: list[tuple[int, int]] = []

    def watch(now: BatchProgress) -> None:
        seen.append((now.rows, now.bad))

    run(path, tmp_path / "out", workers=Workers(2), on_progress=watch)
    assert contents(tmp_path / "out") == contents(out)
    assert record(tmp_path / "out") == record(out)
    assert seen[-1] == (70, 5)
    assert [rows for rows, _ in seen] == sorted(rows for rows, _ in seen)


def test_what_is_there_is_not_drawn_again(drawn: tuple[Path, Path]) -> None:
    path, out = drawn
    before = {each: each.stat().st_ino for each in (out / "shards").iterdir()}
    assert run(path, out).num_bad == 5
    assert {each: each.stat().st_ino for each in (out / "shards").iterdir()} == before


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "turned": turn_a_bit,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["tar", "json", "done"])
def test_damage_is_found_and_mended(suffix: str, damage: str, drawn: tuple[Path, Path], undisturbed: tuple[Path, Path]) -> None:
    path, out = drawn
    DAMAGE[damage](out / f"shards/00002.{suffix}")
    assert not finished(open_store(str(out)), 2)
    others = {each: each.stat().st_ino for each in (out / "shards").iterdir() if not each.name.startswith("00002")}
    messages: list[str] = []
    result = run(path, out, on_progress=lambda now: messages.append(now.message))
    told = [message for message in messages if message]
    if (suffix, damage) == ("done", "removed"):  # as if it had not been finished
        assert told == []
    else:
        assert told == [told[0]]
        assert re.fullmatch(rf"shards/00002\.({suffix}|json) is .*: shard 00002 was drawn again", told[0])
        assert result.redrawn == 1
    assert contents(out) == contents(undisturbed[1])
    assert finished(open_store(str(out)), 2)
    assert {each: each.stat().st_ino for each in others} == others


class LaterDrawer:
    """As StubDrawer, but the photos of all people are there by now. Counts what it draws."""

    drawn = 0

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        LaterDrawer.drawn += len(rows)
        return (DrawnRow(row, tiny_png(row.id), "png", {"settings": {"seed": row.seed}}) for row in rows)


def test_rows_that_were_mended_are_drawn_by_the_same_command(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = drawn
    LaterDrawer.drawn = 0
    assert run(path, out, make_drawer=LaterDrawer).num_bad == 0
    assert LaterDrawer.drawn == 5 + 20  # the bad rows, to see whether they are mended, and then their shard
    run(path, tmp_path / "fresh", make_drawer=LaterDrawer)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_store_that_something_else_uses_is_refused(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_store(str(out)).locked(), ThreadPoolExecutor(1) as pool:  # of another thread the lock is another's
        attempt = pool.submit(run, undisturbed[0], out)
        with pytest.raises(CheckpointError, match="another run is writing"):
            attempt.result()


def test_a_full_disk_is_said_and_the_same_command_goes_on(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = undisturbed
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))  # the rows of a shard have room, a tar has none
    try:
        with pytest.raises(DataError, match=r"3 shards of 4 could not .*00000\.tar cannot be written.*goes on"):
            run(path, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out/shards").iterdir()) == []
    assert not (tmp_path / "out/batch.json").exists()
    run(path, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


class FailingDrawer:
    """Draws the first shard only."""

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        for index, row in enumerate(rows):
            if index == 10 and row.person != "people/person00002":
                raise MemoryError("no room")
            yield from StubDrawer()([row])


def test_shards_that_fail_are_told_and_drawn_by_the_same_command(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    messages: list[str] = []
    with pytest.raises(DataError, match=r"could not be drawn.*MemoryError"):
        run(undisturbed[0], tmp_path / "out", make_drawer=FailingDrawer, on_progress=lambda now: messages.append(now.message))
    assert any(re.match("shard 0000. was not drawn: MemoryError", message) for message in messages)
    run(undisturbed[0], tmp_path / "out")
    assert contents(tmp_path / "out") == contents(undisturbed[1])


def test_a_tar_that_is_damaged_is_not_read(drawn: tuple[Path, Path]) -> None:
    tar = drawn[1] / "shards/00001.tar"
    whole = tar.read_bytes()
    turned = bytearray(whole)
    turned[600] ^= 1  # in the first picture
    for content in (whole[:3_000], whole[:20_480], bytes(turned), b""):
        tar.write_bytes(content)
        with pytest.raises(DataError, match=r"shards/00001\.tar (is damaged|has 10 pictures, and its report 20)"):
            list(iterate_samples(open_store(str(drawn[1])), 1))
    tar.unlink()
    with pytest.raises(DataError, match=r"shards/00001\.tar is gone"):
        list(iterate_samples(open_store(str(drawn[1])), 1))
    (drawn[1] / "shards/00001.done").unlink()
    with pytest.raises(DataError, match=r"shards/00001\.done is not there"):
        list(iterate_samples(open_store(str(drawn[1])), 1))


def test_a_plan_of_bad_rows_alone_ends_with_them(tmp_path: Path) -> None:
    path = write_plan(tmp_path / "plan.jsonl", 2, 3, bad=2)
    result = run(path, tmp_path / "out")
    assert (result.pictures, result.num_bad) == (0, 6)
    assert list(iterate_samples(open_store(str(tmp_path / "out")), 0)) == []


ROWS_DAMAGE: dict[str, Callable[[Path], Any]] = {
    **DAMAGE,
    "shortened": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3])),
    "another shard's": lambda path: path.write_bytes(path.with_name("00000.jsonl").read_bytes()),
}


@pytest.mark.parametrize("damage", ROWS_DAMAGE)
def test_no_shard_is_drawn_from_rows_that_were_not_planned(damage: str, drawn: tuple[Path, Path]) -> None:
    path, out = drawn
    ROWS_DAMAGE[damage](out / "rows/00002.jsonl")
    (out / "shards/00002.done").unlink()
    with pytest.raises(DataError, match=r"rows/00002\.jsonl in .* cannot be read"):
        run(path, out)
    assert not finished(open_store(str(out)), 2)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_list_of_rows_is_found(damage: str, drawn: tuple[Path, Path]) -> None:
    path, out = drawn
    DAMAGE[damage](out / "rows/sha256.txt")
    with pytest.raises(DataError, match=r"rows/sha256\.txt (cannot be read|is not the one that was planned)"):
        run(path, out)


@pytest.mark.parametrize("of_other_batch", [False, True])
def test_a_whole_shard_of_another_place_is_drawn_again(of_other_batch: bool, drawn: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = drawn
    before, source = contents(out), out / "shards/00000"
    if of_other_batch:
        run(write_plan(tmp_path / "other.jsonl", 8, 10), tmp_path / "other")
        source = tmp_path / "other/shards/00002"
    for suffix in ("tar", "json", "done"):
        shutil.copy(source.with_suffix(f".{suffix}"), out / f"shards/00002.{suffix}")
    assert run(path, out).redrawn == 1
    assert contents(out) == before
