"""What an evaluation keeps beside the shards is read again, and made again where it is damaged or of something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import DataError
from tenth.experiments.batch import evaluation, evaluation_files, shard_statistics
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.shards import read_shard_rows, write_shard
from tenth.experiments.batch.store import open_store
from toy_evaluated_batch import (
    EACH,
    PEOPLE,
    SHARD,
    as_folders,
    assert_equal,
    batch,
    count,
    draw,
    evaluated,
    extracting,
    in_one_process,
    kept,
    photos,
)
from toy_extractors import load_toys


def test_a_second_evaluation_reads_what_the_first_kept(tmp_path: Path) -> None:
    out, held_out, seen = batch(tmp_path / "b"), photos(tmp_path / "real", 1), tmp_path / "seen"
    first = evaluated(out, load=extracting(seen), held_out=held_out)
    assert count(seen) == PEOPLE * (EACH + 3)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    second = evaluated(out, load=extracting(seen), held_out=held_out)
    assert second.scores == first.scores
    assert count(seen) == PEOPLE * (EACH + 3)
    assert written == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_other_photos_cost_no_features_of_pictures(tmp_path: Path) -> None:
    out, seen = batch(tmp_path / "b"), tmp_path / "seen"
    first = evaluated(out, load=extracting(seen), held_out=photos(tmp_path / "real", 1))
    other = evaluated(out, load=extracting(seen), held_out=photos(tmp_path / "other", 2))
    assert count(seen) == PEOPLE * EACH + 2 * PEOPLE * 3
    assert other.scores["fid"] != first.scores["fid"]
    assert evaluated(out, load=extracting(seen), held_out=tmp_path / "real").scores == first.scores


KINDS = ("recognizer", "inception", "statistics", "classes", "moments", "subset", "kernel", "recall")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "cut", "changed", "empty", "another's"])
def test_what_is_damaged_is_found_and_made_again(tmp_path: Path, how: str) -> None:
    """A file of each kind, and all that is made of rows, so that these are read."""
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    first = evaluated(out, held_out=held_out)
    paths = [kept(out, f"{kind}-")[0] for kind in KINDS]
    before = {path: path.read_bytes() for path in paths}
    for path, other in zip(paths, [*paths[1:], paths[0]], strict=True):
        content = before[path]
        damaged = {"cut": content[: len(content) // 2], "changed": content[:-1] + bytes([content[-1] ^ 1]), "empty": b""}
        path.unlink() if how == "gone" else path.write_bytes(damaged.get(how, before[other]))
    assert evaluated(out, held_out=held_out).scores == first.scores
    assert {path: path.read_bytes() for path in paths} == before


def test_an_evaluation_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each number of files that it wrote: what is there is not made again, and the figures are the same."""
    out, held_out, seen = batch(tmp_path / "b"), photos(tmp_path / "real", 1), tmp_path / "seen"
    expected = evaluated(batch(tmp_path / "whole"), held_out=held_out).scores
    write, written = evaluation_files.write_kept, list[str]()

    def writing_until(most: int) -> Any:
        def limited(store: Any, name: str, *rest: Any) -> None:
            if len(written) >= most:
                raise KeyboardInterrupt
            write(store, name, *rest)
            written.append(name)

        return limited

    for most in range(1, 30, 4):
        for module in (evaluation_files, shard_statistics, evaluation):
            monkeypatch.setattr(module, "write_kept", writing_until(most))
        with pytest.raises(KeyboardInterrupt):
            evaluated(out, load=extracting(seen), held_out=held_out)
    for module in (evaluation_files, shard_statistics, evaluation):
        monkeypatch.setattr(module, "write_kept", writing_until(1_000))
    assert evaluated(out, load=extracting(seen), held_out=held_out).scores == expected
    assert len(written) == len(set(written)) == len(kept(out, ""))
    assert count(seen) <= PEOPLE * (EACH + 3) + 8 * SHARD  # a shard at each stop


def test_a_shard_that_was_drawn_again_is_measured_again_alone(tmp_path: Path) -> None:
    out, held_out, seen = batch(tmp_path / "b"), photos(tmp_path / "real", 1), tmp_path / "seen"
    first = evaluated(out, load=extracting(seen), held_out=held_out)
    store = open_store(str(out))
    rows = read_shard_rows(store, 1)
    (black,) = draw([BatchRow("people/p0", "black", 0, rows[0].settings)])
    write_shard(store, 1, [replace(black, row=row) for row in rows])
    second = evaluated(out, load=extracting(seen), held_out=held_out)
    assert count(seen) == PEOPLE * (EACH + 3) + SHARD
    assert second.scores["face-detection-rate"] != first.scores["face-detection-rate"]
    expected = in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", held_out=held_out)
    assert_equal(dict(second.scores), expected)


def test_features_that_a_batch_was_drawn_with_are_read(tmp_path: Path) -> None:
    from tenth.experiments.batch.features import FeatureCollector

    out, held_out, seen = batch(tmp_path / "b"), photos(tmp_path / "real", 1), tmp_path / "seen"
    expected = evaluated(out, held_out=held_out).scores
    drawn = batch(tmp_path / "d")
    store = open_store(str(drawn))
    for index in range(5):
        write_shard(store, index, draw(read_shard_rows(store, index)), FeatureCollector(load_toys()))
    assert evaluated(drawn, load=extracting(seen), held_out=held_out).scores == expected
    assert count(seen) == PEOPLE * 3
    assert not kept(drawn, "recognizer-")


def test_people_come_from_the_rows_that_were_drawn(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    (out / "rows/00002.jsonl").write_bytes((out / "rows/00001.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"rows/00002\.jsonl in .* other rows"):
        evaluated(out, held_out=held_out)


def test_a_shard_of_another_place_is_not_measured(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    for path in (out / "shards").glob("00001.*"):
        path.with_name(path.name.replace("00001", "00002")).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"00002\.json is of shard 1"):
        evaluated(out, held_out=held_out)
