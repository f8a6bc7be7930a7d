"""A training set in files: the same training as in memory, written whatever stops it, and a damaged file is found."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tenth.core.cache import ArrayCache
from tenth.core.config import from_table
from tenth.core.errors import CheckpointError, DataError, InputError, ModelError, RecipeError
from tenth.core.files import writing
from tenth.data.faces.crops import PhotoDataset
from tenth.training.adapter import dataset, encoding, sharded_encoding, shards
from tenth.training.adapter.sharded_encoding import EncodeOptions, encode_training_set
from tenth.training.adapter.trainer import AdapterRecipe, train_adapter
from tenth.training.frozen_diffusion import FrozenDiffusion
from toy_encoding import contents, load_toy_networks, toy_networks, write_people

SHARD_PHOTOS = 5
TABLE = {
    "aggregator": "set",
    "references": {"min_photos": 1, "max_photos": 4, "p_impostor": 0.6, "p_degraded": 0.4},
    "embedding_pretraining": {
        "schedule": {"total_images": 48, "batch_size": 6, "warmup_images": 8},
        "loss": {"references": {"min_photos": 1, "p_impostor": 0.5}},
    },
    "schedule": {"total_images": 24, "batch_size": 6, "warmup_images": 6, "precision": "fp32"},
}


@pytest.fixture(autouse=True)
def toy_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sharded_encoding, "load_model", load_toy_networks)
    sharded_encoding.load_networks.cache_clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    return write_people(tmp_path_factory.mktemp("photos"))


def encode(data: PhotoDataset, output: Path, model: Path, **options: Any) -> list[shards.ShardReport]:
    return encode_training_set(data, output, str(model), EncodeOptions(**options), SHARD_PHOTOS)


@pytest.fixture(scope="module")
def encoded(data: PhotoDataset, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished set, which no test changes."""
    output = tmp_path_factory.mktemp("encoded") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_encoding, "load_model", load_toy_networks)
        sharded_encoding.load_networks.cache_clear()
        encode(data, output, toy_folder)
    return output


def trained(source: dict[str, Any], toy_folder: Path, directory: Path) -> dict[str, bytes]:
    train_adapter(from_table(AdapterRecipe, TABLE | source), toy_networks(toy_folder), directory)
    return contents(directory / "final")


def test_a_set_in_files_has_everybody_with_two_photos(encoded: Path) -> None:
    index = json.loads((encoded / "index.json").read_text())
    assert len(index["shards"]) == 4
    assert sum(shard["people"] for shard in index["shards"]) == 7
    assert sum(shard["photos"] for shard in index["shards"]) == 21
    assert [shard["dropped_people"] for shard in index["shards"]] == [0, 1, 0, 0]
    for file in (encoded / "shards").glob("*.safetensors"):
        assert file.stat().st_mode & 0o077 == 0  # it holds face descriptors
        tensors = load_file(file)
        assert tensors["num_photos"].sum() == len(tensors["embeddings"]) == len(tensors["latent_moments"])
        assert not tensors["caption_indices"].max() >= len(tensors["hidden"])


@pytest.mark.slow
@pytest.mark.parametrize("block_photos", [dataset.BLOCK_PHOTOS, 1])
def test_training_gives_the_same_bytes_from_files_and_from_memory(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_photos: int
) -> None:
    """Also where the order has several windows, and where files are closed and mapped again in each step."""
    monkeypatch.setattr(dataset, "BLOCK_PHOTOS", block_photos)
    if block_photos == 1:
        monkeypatch.setattr("tenth.training.schedule.WINDOW_BLOCKS", 2)
        monkeypatch.setattr(shards, "MAX_MAPPED_SHARDS", 1)
    photos = {"data": {"people": str(data.people), "photos": str(data.photos)}}
    in_memory = trained(photos, toy_folder, tmp_path / "memory")
    assert set(in_memory) == {"aggregator.safetensors", "ip-adapter.safetensors"}
    assert trained({"encoded": str(encoded)}, toy_folder, tmp_path / "files") == in_memory


def test_people_with_too_few_photos_for_the_recipe_are_passed_over(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path
) -> None:
    model = toy_networks(toy_folder)
    frozen = FrozenDiffusion(model.pipeline)
    files = shards.open_training_set(encoded, 3, model.encoder, frozen)
    memory = encoding.build_dataset(data, 3, model.encoder, frozen, ArrayCache(tmp_path / "cache"))
    assert files.num_photos.tolist() == memory.num_photos.tolist() == [3, 4, 5, 3]
    assert (files.max_photos, files.max_captions) == (memory.max_photos, memory.max_captions)
    for people in (torch.tensor([3, 0]), torch.arange(4)):
        assert torch.equal(files.embeddings(files.photos_of(people)), memory.embeddings(memory.photos_of(people)))
    with pytest.raises(DataError, match="none has more than 5; at least 10 photos of a person"):
        shards.open_training_set(encoded, 10, model.encoder, frozen)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def change_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"hidden")] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut_short, change_header, Path.unlink])
def test_a_damaged_shard_is_found_when_it_is_opened_and_done_again(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path, damage: Any
) -> None:
    encode(data, tmp_path / "set", toy_folder)
    damage(tmp_path / "set/shards/00002.safetensors")
    model = toy_networks(toy_folder)
    with pytest.raises(DataError, match=r"00002\.safetensors .*a whole shard is needed\. Run `tenth data encode`"):
        shards.open_training_set(tmp_path / "set", 2, model.encoder, FrozenDiffusion(model.pipeline))
    encode(data, tmp_path / "set", toy_folder)
    assert contents(tmp_path / "set") == contents(encoded)


def test_a_shard_that_is_cut_short_while_it_is_open_is_an_error(encoded: Path, toy_folder: Path, tmp_path: Path) -> None:
    """It is mapped: what is read of it beyond its end would end the process, with SIGBUS."""
    output, model = Path(shutil.copytree(encoded, tmp_path / "set")), toy_networks(toy_folder)
    files = shards.open_training_set(output, 2, model.encoder, FrozenDiffusion(model.pipeline))
    photos = files.photos_of(torch.arange(files.num_people))
    files.embeddings(photos)
    os.truncate(output / "shards/00002.safetensors", 10)
    with pytest.raises(
        DataError, match=r"00002\.safetensors has 10 bytes, and had [\d,]+; a whole shard is needed\. Run `tenth"
    ):
        files.embeddings(photos)


def test_a_changed_number_is_found_by_verify(data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path) -> None:
    encode(data, tmp_path / "set", toy_folder)
    path = tmp_path / "set/shards/00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    encode(data, tmp_path / "set", toy_folder)
    assert path.read_bytes() == content
    encode(data, tmp_path / "set", toy_folder, verify=True)
    assert contents(tmp_path / "set") == contents(encoded)


def test_a_full_disk_is_said_and_leaves_nothing_half(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fsync = [0], os.fsync

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left on device.*shards? missing, the others are kept\. Mend it, and run"):
        encode(data, tmp_path / "set", toy_folder)
    monkeypatch.setattr(writing.os, "fsync", fsync)
    left, whole = contents(tmp_path / "set"), contents(encoded)
    assert left.items() <= whole.items()
    assert "plan.json" in left
    assert "index.json" not in left
    encode(data, tmp_path / "set", toy_folder)
    assert contents(tmp_path / "set") == whole


def test_a_photo_that_cannot_be_read_costs_its_shard_alone(toy_folder: Path, tmp_path: Path) -> None:
    data = write_people(tmp_path / "photos")
    whole = (tmp_path / "photos/dora/1.png").read_bytes()
    (tmp_path / "photos/dora/1.png").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"1\.png.*1 shard missing"):
        encode(data, tmp_path / "set", toy_folder)
    assert len(list((tmp_path / "set/shards").glob("*.json"))) == 3
    (tmp_path / "photos/dora/1.png").write_bytes(whole)
    assert len(encode(data, tmp_path / "set", toy_folder)) == 4


def test_what_does_not_belong_together_is_refused(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of something else, and of another set.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match=r"holds letter\.txt, and no training set"):
        encode(data, tmp_path / "mine", toy_folder)
    other = write_people(tmp_path / "others", {"ida": 2})
    with pytest.raises(CheckpointError, match="holds a training set of another people"):
        encode(other, encoded, toy_folder)

    # Nobody to train on, and an unfinished set.
    alone = write_people(tmp_path / "alone", {"ida": 1})
    with pytest.raises(DataError, match="nobody has 2 usable photos"):
        encode(alone, tmp_path / "set", toy_folder)
    model = toy_networks(toy_folder)
    frozen = FrozenDiffusion(model.pipeline)
    with pytest.raises(DataError, match=r"index\.json does not exist; a finished training set"):
        shards.open_training_set(tmp_path / "set", 2, model.encoder, frozen)

    # Another model's networks.
    monkeypatch.setattr(model.encoder, "name", "colours@1")
    with pytest.raises(ModelError, match=r"was encoded by .*colours@0"):
        shards.open_training_set(encoded, 2, model.encoder, frozen)
    with pytest.raises(RecipeError, match=r"photos and \[synthetic\]"):
        from_table(AdapterRecipe, TABLE | {"encoded": str(encoded), "synthetic": {"num_people": 2}})


@pytest.mark.parametrize("damage", ["", "[]", '{"shards": [{}]}', '{"shards": [{"people": true}]}'])
def test_a_damaged_index_is_refused(encoded: Path, toy_folder: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "index.json").write_text(damage)
    model = toy_networks(toy_folder)
    with pytest.raises(InputError, match=r"index\.json .*a finished training set is needed"):
        shards.open_training_set(tmp_path, 2, model.encoder, FrozenDiffusion(model.pipeline))


@pytest.mark.parametrize("damage", ["shortened", "another's", "removed"])
def test_no_shard_is_encoded_of_other_rows(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path, damage: str
) -> None:
    output = Path(shutil.copytree(encoded, tmp_path / "set"))
    rows = output / "rows/00000.jsonl"
    if damage == "shortened":
        rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:-1]))
    elif damage == "removed":
        rows.unlink()
    else:
        shutil.copy(output / "rows/00002.jsonl", rows)
    (output / "shards/00000.json").unlink()
    with pytest.raises(DataError, match=r"rows/00000\.jsonl (has other rows than it had|does not exist)"):
        encode(data, output, toy_folder)


def test_a_shard_in_another_ones_place_is_encoded_again(
    data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(encoded, tmp_path / "set"))
    for suffix in ("safetensors", "json"):
        shutil.copy(output / f"shards/00002.{suffix}", output / f"shards/00000.{suffix}")
    encode(data, output, toy_folder)
    assert contents(output) == contents(encoded)


def test_a_damaged_list_of_rows_is_refused(data: PhotoDataset, encoded: Path, toy_folder: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(encoded, tmp_path / "set"))
    path = output / "rows/sha256.txt"
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(DataError, match=r"rows/sha256\.txt has"):
        encode(data, output, toy_folder)


def test_photos_are_not_given_to_other_people(encoded: Path, toy_folder: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(encoded, tmp_path / "set"))
    path = output / "shards/00000.safetensors"
    tensors = load_file(path)
    tensors["num_photos"][0] += 1
    save_file(tensors, path)
    assert path.stat().st_size == (encoded / "shards/00000.safetensors").stat().st_size
    model = toy_networks(toy_folder)
    with pytest.raises(DataError, match="does not divide its"):
        shards.open_training_set(output, 2, model.encoder, FrozenDiffusion(model.pipeline))
