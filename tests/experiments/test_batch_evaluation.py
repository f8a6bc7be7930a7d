"""A batch in shards against the same pictures in folders: equal figures, and what cannot be evaluated."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from forked_workers import forked_workers
from tenth.cli.main import main
from tenth.core.errors import DataError
from tenth.evaluation.extractors.loading import MISSING
from tenth.evaluation.folders import NO_PEOPLE, NO_REFERENCES
from tenth.evaluation.metrics.recognition.groups import GENDER_METRICS
from tenth.evaluation.metrics.recognition.identification import RANK_METRICS
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES
from tenth.evaluation.reduce import figures
from tenth.experiments.batch.plan import plan_batch
from tenth.experiments.batch.shards import iterate_samples, read_shard_rows, shard_file, write_shard
from tenth.experiments.batch.store import open_store
from toy_evaluated_batch import (
    EACH,
    PEOPLE,
    SHARD,
    as_folders,
    assert_equal,
    batch,
    draw,
    evaluated,
    in_one_process,
    kept,
    photos,
)
from toy_extractors import Classes, load_toys

OF_MORE_PEOPLE = {*RANK_METRICS[2:], *FALSE_ACCEPT_RATES, *GENDER_METRICS}  # seven have too few look-alikes and pairs


@pytest.mark.parametrize("bad", [(), (4, 5, *range(7, 21))])
def test_every_figure_of_a_batch_is_that_of_its_pictures_in_folders(tmp_path: Path, bad: tuple[int, ...]) -> None:
    """With references; also with bad rows, of which one shard has nothing else."""
    out = batch(tmp_path / "b", bad=bad)
    sides = {"held_out": photos(tmp_path / "real", 1), "references": photos(tmp_path / "given", 2)}
    found = evaluated(out, **sides)
    expected = in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", **sides)
    assert_equal(dict(found.scores), expected)
    assert {name for name, score in expected.items() if score.value is None} == OF_MORE_PEOPLE
    assert found.disclaimer == Classes.disclaimer
    if bad:
        assert any(not list(iterate_samples(open_store(str(out)), index)) for index in range(5))


@pytest.mark.slow
def test_workers_give_the_figures_of_one_process(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    expected = in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", held_out=held_out)
    with forked_workers():
        assert_equal(dict(evaluated(out, 2, held_out=held_out).scores), expected)


def test_without_inception_and_references_and_with_a_threshold(tmp_path: Path) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    load = partial(load_toys, threshold=0.2, network=False)
    scores = dict(evaluated(out, load=load, held_out=held_out).scores)
    rate = scores.pop("true-accept-rate")
    assert_equal(
        scores, in_one_process(as_folders(out, tmp_path / "folders"), tmp_path / "c", network=False, held_out=held_out)
    )
    network_of = {"fid": "inception", "mind": "inception", "fd-dinov2": "dinov2", "face-quality": "face-quality"}
    for name, network in network_of.items():
        assert scores[name].unavailable == MISSING[network]
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
    assert scores["mind"].unavailable.startswith("35 images; it sorts at most 34")
    assert {name for name, score in scores.items() if score.value is None} == {
        "kid",
        "recall",
        "mind",
        "copy-paste-index",
        *OF_MORE_PEOPLE,
    }


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


# The command


@pytest.mark.slow
def test_the_command_tells_a_batch_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, held_out = batch(tmp_path / "b"), photos(tmp_path / "real", 1)
    folder = as_folders(out, tmp_path / "folders")
    assert main(["evaluate", str(out), "--held-out", str(held_out), "--json"]) == 0
    of_batch = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(folder), "--held-out", str(held_out), "--json"]) == 0
    assert of_batch == json.loads(capsys.readouterr().out)
    assert of_batch["metrics"]["face-detection-rate"] == {
        **dict.fromkeys(("value", "low"), 0.0),
        "high": pytest.approx(1 - 0.025 ** (1 / PEOPLE)),  # of so few people nobody has one
        "n": PEOPLE,
        "higher_is_better": True,
        "unavailable": "",
    }
    assert main(["evaluate", str(folder), "--held-out", str(held_out), "--workers", "2"]) == 2
    assert "it is for a batch" in capsys.readouterr().err
    assert main(["evaluate", str(folder), "--held-out", str(held_out), "--ray", "auto"]) == 2
    (out / shard_file(0, "done")).unlink()
    assert main(["evaluate", str(out), "--held-out", str(held_out)]) == 1
    assert "a finished batch is needed" in capsys.readouterr().err
