"""An adapter's training set in files: shards of people that are memory-mapped, so that a set of any size needs no memory.

`tenth data encode` writes the folder: plan.json, what is encoded by which networks; rows/00000.jsonl, the rows of each shard,
and rows/sha256.txt, the sha256 of each of these files;
shards/00000.safetensors, what the networks gave; shards/00000.json, its sizes and sha256; index.json, all of these, last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from tenth.core.errors import DataError, ModelError
from tenth.core.files.reading import UnreadableError, read_json, reason, sha256_of
from tenth.core.files.tensors import read_header, read_tensors
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_json, write_tensors
from tenth.core.types import Encoder
from tenth.data.degradations import DEGRADATION_VERSION
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.training.adapter.dataset import AdapterDataset, EncodedPhotos
from tenth.training.flow_matching.frozen_model import FrozenModel
from tenth.training.flow_matching.frozen_transformer import TEXT_ENCODERS

PLAN_FILE, INDEX_FILE = "plan.json", "index.json"
ROWS_FOLDER, SHARDS_FOLDER = "rows", "shards"
DIGESTS_FILE = "rows/sha256.txt"
MAX_INDEX_BYTES = 1 << 30  # a million shards
MAX_MAPPED_SHARDS = 32  # at a time: a window's, whose people may lie in twice as many shards as it has blocks
ENCODE_AGAIN = "Run `tenth data encode` with the same arguments again: it redoes what is missing"
PER_PHOTO = ("latent_moments", "embeddings", "degraded_embeddings", "caption_indices")
PER_PERSON = ("num_photos", "num_captions")
PER_CAPTION = ("hidden", "pooled")  # of the prompt embeddings


@dataclass(frozen=True)
class ShardReport:
    """What a shard holds. num_bytes, sha256: of its file; a shard in which nobody has enough photos has no file.

    dropped_photos: without a face to encode. dropped_people: with fewer than two photos. rows_sha256: of the file of its rows.
    """

    people: int
    photos: int
    num_bytes: int
    sha256: str
    dropped_photos: int
    dropped_people: int
    rows_sha256: str


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard's tensors; its report and its rows have the same name elsewhere."""
    return folder / SHARDS_FOLDER / f"{number:05d}.safetensors"


def rows_path(folder: Path, number: int) -> Path:
    """The file of a shard's rows, as in people.jsonl."""
    return folder / ROWS_FOLDER / f"{number:05d}.jsonl"


def encoder_settings(encoder: Encoder, frozen: FrozenModel) -> dict[str, str]:
    """What the values of a set depend on beside its photos: the networks, by the sha256 of their weights, and their input."""
    return {
        "encoder": encoder.name,
        "vae": frozen.digest("vae"),
        "text_encoders": frozen.digest(*TEXT_ENCODERS),
        "pixels": f"{'face' if encoder.crops_faces else 'square'}-{frozen.resolution}",
        "degradations": str(DEGRADATION_VERSION),
    }


def write_shard(path: Path, photos: EncodedPhotos) -> None:
    """Write the tensors, for their owner only. Equal values give equal bytes. Raises as `write_tensors`."""
    tensors = {name: getattr(photos, name) for name in (*PER_PHOTO, *PER_PERSON)}
    for name in PER_CAPTION:
        if (values := getattr(photos.prompt_embeddings, name)) is not None:
            tensors[name] = values.float().cpu()
    write_tensors(path, tensors, mode=PRIVATE_FILE_MODE)


def read_shard(path: Path, report: ShardReport) -> EncodedPhotos:
    """A shard's tensors, memory-mapped: what is not used is not read.

    Raises DataError if the file's size, header, tensors or numbers of photos are not those of the report.
    Other values are not looked at.
    """
    try:
        _check_size(path, report)
        _, infos = read_header(path)
        rows = dict.fromkeys(PER_PHOTO, report.photos) | dict.fromkeys(PER_PERSON, report.people)
        for name, count in rows.items():
            if name not in infos or infos[name].shape[:1] != (count,):
                raise UnreadableError(f"has no {name} of {count}")
        _, tensors = read_tensors(path, finite_floats=False)
        if "hidden" not in tensors:
            raise UnreadableError("has no prompt embeddings")
        if int(tensors["num_photos"].sum()) != report.photos or int(tensors["num_photos"].min()) < 1:
            raise UnreadableError(f"does not divide its {report.photos} photos among its people")
    except (OSError, UnreadableError) as problem:
        raise _damaged(path, problem) from problem
    prompts = PromptEmbeddings(tensors["hidden"], tensors.get("pooled"))
    return EncodedPhotos(**{name: tensors[name] for name in rows}, prompt_embeddings=prompts)


def _check_size(path: Path, report: ShardReport) -> None:
    """Raises UnreadableError unless a shard's file has the size that it was written with, OSError if there is none."""
    if (found := path.stat().st_size) != report.num_bytes:
        raise UnreadableError(f"has {found:,} bytes, and had {report.num_bytes:,}")


def _damaged(path: Path, problem: OSError | UnreadableError) -> DataError:
    return DataError(f"{path} {reason(problem)}", "a whole shard is needed", ENCODE_AGAIN)


def write_report(folder: Path, number: int, report: ShardReport) -> None:
    """Write a shard's report, after its tensors: with it the shard is finished."""
    write_json(shard_path(folder, number).with_suffix(".json"), asdict(report))


def finished_report(folder: Path, number: int, rows_sha256: str, *, verify: bool = False) -> ShardReport | None:
    """The report of a shard of these rows whose file has its size and header, None otherwise.

    verify: the file has its sha256 as well, for which it is read as a whole.
    """
    path = shard_path(folder, number)
    try:
        report = _parse_report(read_json(path.with_suffix(".json")))
        if report.rows_sha256 != rows_sha256:
            return None
        if report.photos:
            read_shard(path, report)
            if verify and sha256_of(path) != report.sha256:
                return None
    except (OSError, UnreadableError, DataError):
        return None
    return report


def write_index(folder: Path, plan: Mapping[str, Any], reports: list[ShardReport]) -> None:
    """Write the index, last: with it the set is finished."""
    write_json(folder / INDEX_FILE, {**plan, "shards": [asdict(report) for report in reports]})


def open_training_set(folder: Path, min_photos: int, encoder: Encoder, frozen: FrozenModel) -> AdapterDataset:
    """The data set of a finished folder, of the people with `min_photos` photos.

    Each file's size and header are checked, not its values. Raises DataError if the folder is not finished or a shard is
    damaged, ModelError if it was encoded by other networks.
    """
    # The index, and whether it is of these networks.
    try:
        index = read_json(folder / INDEX_FILE, MAX_INDEX_BYTES)
        if not isinstance(index, dict) or not isinstance(index.get("shards"), list):
            raise UnreadableError("is no index of a training set")
        reports = [_parse_report(each) for each in index["shards"]]
    except (OSError, UnreadableError) as problem:
        found = f"{folder / INDEX_FILE} {reason(problem)}"
        raise DataError(found, "a finished training set is needed", ENCODE_AGAIN) from problem
    expected = encoder_settings(encoder, frozen)
    if index.get("networks") != expected:
        found = f"{folder} was encoded by {index.get('networks')}"
        action = "Choose the model that it was encoded for, or encode it for this one"
        raise ModelError(found, f"this model needs {expected}", action)

    # The people of each shard; the rest is mapped when it is needed.
    filled = [(shard_path(folder, number), report) for number, report in enumerate(reports) if report.photos]
    spans: list[tuple[Tensor, Tensor]] = []
    for path, report in filled:
        shard = read_shard(path, report)
        spans.append((shard.num_photos.clone(), shard.num_captions.clone()))

    @lru_cache(MAX_MAPPED_SHARDS)
    def mapped(number: int) -> EncodedPhotos:
        return read_shard(*filled[number])

    def read_part(number: int) -> EncodedPhotos:
        # Each time: what is cut off a file that is mapped ends the process, with SIGBUS, when it is read.
        path, report = filled[number]
        try:
            _check_size(path, report)
        except (OSError, UnreadableError) as problem:
            raise _damaged(path, problem) from problem
        return mapped(number)

    return AdapterDataset(read_part, spans, min_photos)


def _parse_report(value: Any) -> ShardReport:
    """Raises UnreadableError for anything that `write_report` did not write."""
    types = {each.name: str if each.name.endswith("sha256") else int for each in fields(ShardReport)}
    if not isinstance(value, dict) or {name: type(each) for name, each in value.items()} != types:
        raise UnreadableError("is no report of a shard")
    return ShardReport(**value)
