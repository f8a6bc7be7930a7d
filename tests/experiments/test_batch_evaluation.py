"""A batch in shards against the same pictures in folders: equal figures, made once, redone where they are damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError
from tenth.core.types import Score
from tenth.core.workers.attempts import Workers
from tenth.evaluation.extractors.inception import Inception
from tenth.evaluation.folders import NO_INCEPTION, NO_PEOPLE, NO_REFERENCES, FolderEvaluation, evaluate_folders
from tenth.evaluation.reduce import figures
from tenth.experiments.batch import evaluation, evaluation_files, shard_statistics
from tenth.experiments.batch.evaluation import evaluate_batch
from tenth.experiments.batch.plan import plan_batch
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.shard_statistics import person_tag
from tenth.experiments.batch.shards import DrawnRow, iterate_samples, read_shard_rows, shard_file, write_shard
from tenth.experiments.batch.store import open_store
from toy_extractors import Classes, Corners, load_toys

PEOPLE, EACH, SHARD = 5, 7, 8  # so that people lie in several shards
BAD = "a bad prompt"


def draw(rows: Sequence[BatchRow]) -> Iterator[DrawnRow]:
    """Pixels by the row's id; a black picture has no face, a bad row no picture."""
    for row in rows:
        if row.prompt == BAD:
            yield DrawnRow(row, error=DataError("a bad prompt", "a good one is needed", "Write one"))
            continue
        pixels = np.random.default_rng(int(row.id, 16)).integers(1, 256, (8, 8, 3), dtype=np.uint8)
        content = BytesIO()
        Image.fromarray(pixels * (row.prompt != "black")).save(content, "PNG")
        yield DrawnRow(row, content.getvalue())


def batch(place: Path, people: int = PEOPLE, *, black: Sequence[int] = (3, 30), bad: Sequence[int] = ()) -> Path:
    """A finished batch: `people` people, EACH pictures of each, the numbered ones black or bad."""
    place.mkdir()
    lines = []
    for index in range(people * EACH):
        prompt = "black" if index in black else BAD if index in bad else "a photo"
        lines.append(json.dumps({"person": f"people/p{index // EACH}", "prompt": prompt, "seed": index}))
    plan = place / "plan.jsonl"
    plan.write_text("\n".join(lines))
    store = open_store(str(place / "out"))
    for index in range(plan_batch(plan, store, {"rows_per_shard": SHARD}).shards):
        write_shard(store, index, draw(read_shard_rows(store, index)))
    return place / "out"


def photos(place: Path, seed: int, people: int = PEOPLE, each: int = 3, *, flat: bool = False) -> Path:
    random = np.random.default_rng(seed)
    for person in range(people):
        folder = place if flat else place / f"p{person}"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(each):
            pixels = random.integers(1, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{person}-{index}.png")
    return place


def as_folders(out: Path, place: Path, *, flat: bool = False) -> Path:
    """The pictures of a batch, in their order."""
    store = open_store(str(out))
    for index in range(len(list((out / "rows").glob("[0-9]*")))):
        for number, (row, picture, _) in enumerate(iterate_samples(store, index)):
            folder = place if flat else place / person_tag(row.person)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:03}-{number:03}.png").write_bytes(picture)
    return place


def evaluated(out: Path, workers: int = 0, load: Any = load_toys, **sides: Path | None) -> FolderEvaluation:
    cache = ArrayCache(out.parent / "cache")
    sides = {"references": None, **sides}
    return evaluate_batch(str(out), load=load, cache=cache, workers=Workers(workers), **cast(Any, sides))


def in_one_process(folder: Path, cache: Path, *, network: bool = True, **sides: Path) -> dict[str, Score]:
    inception = cast(Inception, Classes()) if network else None
    found = evaluate_folders(
        generated=folder, recognizer=Corners(), inception=inception, store=ArrayCache(cache), **cast(Any, sides)
    )
    return dict(found.scores)


def assert_equal(found: dict[str, Score], expected: dict[str, Score]) -> None:
    assert list(found) == list(expected)
    for name, score in expected.items():
        assert (found[name].n, found[name].unavailable) == (score.n, score.unavailable), name
        for key in ("value", "low", "high"):
            value = asdict(score)[key]
            close = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)
            assert asdict(found[name])[key] == close, name


@pytest.mark.parametrize("bad", [(), (4, 5, *range(7, 21))])
def test_every_figure_of_a_batch_is_that_of_its_pictures_in_folders(tmp_path: Path, bad: tuple[int, ...]) -> None:
    """With references; also with bad rows, of which one shard has nothing else."""
    out = batch(tmp_path / "b", bad=bad)
    sides = {"held_out": photos(tmp_path / "real", 1), "references": photos(tmp_path / "given", 2)}
    found = evaluated(out, **sides)
    expected = in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", **sides)
    assert_equal(dict(found.scores), expected)
    assert all(score.value is not None for score in expected.values())
    assert found.disclaimer == Classes.disclaimer
    if bad:
        assert any(not list(iterate_samples(open_store(str(out)), index)) for index in range(5))


@pytest.mark.slow
def test_workers_give_the_figures_of_one_process(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    expected = in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", held_out=held_out)
    assert_equal(dict(evaluated(out, 2, held_out=held_out).scores), expected)


def test_without_inception_and_references_and_with_a_threshold(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    load = partial(load_toys, threshold=0.2, network=False)
    scores = dict(evaluated(out, load=load, held_out=held_out).scores)
    rate = scores.pop("true-accept-rate")
    assert_equal(
        scores, in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", network=False, held_out=held_out)
    )
    assert scores["fid"].unavailable == NO_INCEPTION
    assert scores["copy-paste-index"].unavailable == NO_REFERENCES
    assert rate.value is not None
    assert 0 < rate.value < 1
    assert rate.n == PEOPLE


def test_one_person_against_a_flat_folder(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b", 1, black=()), photos(tmp_path / "real", 1, 1, 9, flat=True)
    found = evaluated(out, held_out=held_out)
    expected = in_one_process(as_folders(out, tmp_path / "folders", flat=True), tmp_path / "c", held_out=held_out)
    assert_equal(dict(found.scores), expected)
    assert found.scores["identity-similarity"].value is not None
    assert "there is no other person" in found.scores["impostor-similarity"].unavailable
    assert "flat folders" in found.notes[-1]
    few = dict(evaluated(batch(tmp_path / "several"), held_out=held_out).scores)
    assert few["identity-similarity"].unavailable == few["impostor-similarity"].unavailable == NO_PEOPLE
    assert few["face-detection-rate"].n == PEOPLE


def test_people_who_are_not_held_out_and_too_few_photos(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1, 3, 1)
    scores = dict(evaluated(out, held_out=held_out).scores)
    assert_equal(scores, in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", held_out=held_out))
    assert scores["identity-similarity"].unavailable.startswith("p3 has no held-out photo with a face")
    assert scores["density"].unavailable.startswith("3 held-out images and k = 5")


def test_nobody_with_a_face(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b", 2, black=range(2 * EACH)), photos(tmp_path / "real", 1, 2)
    scores = dict(evaluated(out, held_out=held_out).scores)
    assert_equal(scores, in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", held_out=held_out))
    assert scores["face-detection-rate"].value == 0
    assert scores["recall"].unavailable.startswith("0 generated images")


def test_more_images_than_can_be_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MAX_PAIRED_IMAGES", PEOPLE * EACH - 1)
    scores = evaluated(batch(tmp_path / "b"), held_out=photos(tmp_path / "real", 1)).scores
    for name in ("kid", "recall"):
        assert scores[name].unavailable.startswith("35 images; it compares all pairs of at most 34")
    assert {name for name, score in scores.items() if score.value is None} == {"kid", "recall", "copy-paste-index"}


# What is kept


def extracting(seen: Path) -> Any:
    """Extractors that count in a file what they are shown."""
    return partial(load_toys, seen)


def count(seen: Path) -> int:
    return seen.stat().st_size if seen.exists() else 0


def kept(out: Path, kind: str) -> list[Path]:
    return sorted(
        path
        for folder in ("shards", "evaluation")
        for path in (out / folder).iterdir()
        if kind in path.name and path.suffix == ".safetensors"
    )


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


# What cannot be evaluated


def test_a_batch_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    (out / shard_file(2, "done")).unlink()
    with pytest.raises(DataError, match=r"out has 4 of 5 shards; a finished batch is needed. Run `tenth batch`"):
        evaluated(out, held_out=held_out)


def test_a_damaged_tar_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    tar = out / shard_file(2, "tar")
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"shards/00002.tar is not as it was written"):
        evaluated(out, held_out=held_out)
    assert len(kept(out, "statistics-")) == 4  # of the others, which are kept


def test_a_batch_without_pictures_and_a_folder_that_is_none(tmp_path: Path) -> None:
    held_out = photos(tmp_path / "real", 1)
    out = batch(tmp_path / "b", 1, black=(), bad=range(EACH))
    with pytest.raises(DataError, match="has no pictures"):
        evaluated(out, held_out=held_out)
    with pytest.raises(DataError, match=r"has no plan\.json"):
        evaluated(held_out, held_out=held_out)


def test_two_people_of_one_name_are_refused(tmp_path: Path) -> None:
    held_out = photos(tmp_path / "real", 1)
    for index, people in enumerate((["a/p0", "b/p0"], ["a/p0", *(f"a/q{number}" for number in range(9)), "b/p0"])):
        plan, out = tmp_path / f"{index}.jsonl", tmp_path / f"out-{index}"
        plan.write_text("\n".join(json.dumps({"person": person, "prompt": "a photo"}) for person in people))
        store = open_store(str(out))
        for number in range(plan_batch(plan, store, {"rows_per_shard": SHARD}).shards):
            write_shard(store, number, draw(read_shard_rows(store, number)))
        with pytest.raises(DataError, match=r"b/p0 and .* are both p0; each person needs a name of its own"):
            evaluated(out, held_out=held_out)
