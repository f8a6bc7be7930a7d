"""Forgetting in shards: a person's images go out of a batch, and their shards out of a training set; others' stay."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tenth.core.errors import CheckpointError
from tenth.core.files.claims import exclusive_folder
from tenth.experiments.batch.features import FeatureCollector
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.run import BatchSettings, run_batch
from tenth.experiments.batch.shards import DrawnRow, check_shard, iterate_samples, read_shard_rows, write_shard
from tenth.experiments.batch.store import open_store
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.forget import Removed, forget
from tenth.methods.people.record import Consent
from tenth.training.adapter import sharded_encoding
from tenth.training.adapter.sharded_encoding import EncodeOptions, encode_training_set
from toy_batch import StubDrawer, write_plan
from toy_encoding import contents, load_toy_networks, write_people
from toy_extractors import load_toys

ANNA, BATCH = "people/person00001", BatchSettings(rows_per_shard=4)
PHOTO = b"a photo of Anna"
DIGEST = hashlib.sha256(PHOTO).hexdigest()


class Drawer:
    """As the stub; each image says which photos its person has."""

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        for drawn in StubDrawer()(rows):
            photos = [DIGEST if drawn.row.person == ANNA else hashlib.sha256(drawn.row.person.encode()).hexdigest()]
            yield replace(drawn, metadata={**drawn.metadata, "photos": photos})


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeopleFolder:
    """Anna is saved."""
    for variable in ("TENTH_CACHE_DIR", "TENTH_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    saved = PeopleFolder(tmp_path / "saved")
    saved.save("anna", Consent("self"), [PHOTO])
    return saved


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Three people, six images of each, in five shards with features; Anna's six are in the middle."""
    out = tmp_path / "out/batch"
    run_batch(write_plan(tmp_path / "plan.jsonl", 3, 6), str(out), BATCH, make_drawer=Drawer)
    store = open_store(str(out))
    for index in range(5):
        write_shard(store, index, Drawer()(read_shard_rows(store, index)), FeatureCollector(load_toys()))
    for name in ("shards/00001.statistics-abc.safetensors", "evaluation/moments-00000-abc.safetensors"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"sums")
    return out


def images(out: Path) -> dict[str, tuple[str, bytes, list[float]]]:
    """Of each id the person, the image and the features. All shards are whole."""
    found, store = {}, open_store(str(out))
    for index in range(5):
        assert check_shard(store, index) is not None
        rows = load_file(out / f"shards/{index:05d}.features.safetensors")["recognizer"]
        samples = list(iterate_samples(store, index))
        assert len(rows) == len(samples)
        found |= {row.id: (row.person, image, own.tolist()) for (row, image, _), own in zip(samples, rows, strict=True)}
    return found


def test_a_persons_images_go_out_of_a_batch(batch: Path, people: PeopleFolder, tmp_path: Path) -> None:
    before = images(batch)
    untouched = {path: path.stat().st_ino for path in (batch / "shards").glob("0000[04].*")}
    assert forget(people, "anna", [tmp_path / "out"]) == Removed(photos=1, images=6, files=3)
    after = images(batch)
    assert len(before) == 18
    assert after == {name: each for name, each in before.items() if each[0] != ANNA}
    assert not any(DIGEST.encode() in content for content in contents(batch).values())
    assert not list(batch.rglob("*-abc.safetensors"))
    assert {path: path.stat().st_ino for path in untouched} == untouched
    reports = [json.loads((batch / f"shards/{index:05d}.json").read_text()) for index in range(5)]
    bad = [row for report in reports for row in report["bad"]]
    assert {row["id"] for row in bad} == before.keys() - after.keys()
    assert {row["error"]["found"] for row in bad} == {"the person was forgotten"}

    # The same command draws them again where there are photos again.
    result = run_batch(tmp_path / "plan.jsonl", str(batch), BATCH, make_drawer=Drawer)
    assert (result.pictures, result.num_bad) == (18, 0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("suffix", "damage"), [("done", Path.unlink), ("json", cut), ("features.safetensors", cut)])
def test_a_shard_that_is_not_whole_goes(
    suffix: str, damage: Callable[[Path], Any], batch: Path, people: PeopleFolder, tmp_path: Path
) -> None:
    """As one is that was killed while it was written; the batch draws it again."""
    damage(batch / f"shards/00002.{suffix}")
    forget(people, "anna", [tmp_path / "out"])
    assert not list((batch / "shards").glob("00002.*"))
    for path in (batch / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert not any(DIGEST.encode() in tar.extractfile(entry).read() for entry in tar)  # type: ignore[union-attr]


def test_a_batch_that_goes_on_is_waited_for(batch: Path, people: PeopleFolder, tmp_path: Path) -> None:
    before = contents(batch)
    with exclusive_folder(batch), ThreadPoolExecutor(1) as pool:  # of another thread the lock is another's
        attempt = pool.submit(forget, people, "anna", [tmp_path / "out"])
        with pytest.raises(CheckpointError, match="another run is writing"):
            attempt.result()
    assert contents(batch) == before
    assert len(people.photos("anna")) == 1


def test_a_persons_shards_go_out_of_a_training_set(
    people: PeopleFolder, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_encoding, "load_model", load_toy_networks)
    sharded_encoding.load_networks.cache_clear()
    data, output = write_people(tmp_path / "photos"), tmp_path / "out/set"
    people.save("dora", Consent("self"), sorted((tmp_path / "photos/dora").iterdir()))
    assert len(encode_training_set(data, output, str(toy_folder), EncodeOptions(), 5)) == 4
    before = contents(output)
    removed = forget(people, "dora", [tmp_path / "out"])
    assert (removed.photos, removed.files) == (4, 4)  # the index, and a shard's tensors, report and rows
    after = contents(output)
    own = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "photos/dora").iterdir()]
    assert not any(digest.encode() in content for digest in own for content in after.values())
    assert after.items() <= before.items()
    assert len([name for name in after if name.endswith(".safetensors")]) == 3
