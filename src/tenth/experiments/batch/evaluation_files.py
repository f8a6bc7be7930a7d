"""What an evaluation keeps beside the shards, each with what it was made of: made once, and again where it is damaged.

    shards/00000.recognizer-KEY.safetensors    rows of features, where the shard has none of the same extractor
    shards/00000.inception-KEY.safetensors
    shards/00000.statistics-KEY.safetensors    sums against the real photos
    shards/00000.classes-KEY.safetensors       of the Inception Score
    evaluation/real-KEY.safetensors            the features of the real photos
    evaluation/moments-00000-KEY.safetensors   of some shards, as are dinov2-moments; kernel and recall, against all shards;
                                               subset and sliced, of all

KEY: of the extractors and the real photos. In each file is what it was made of, with the sha256 of each shard's tar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, parse_json
from tenth.core.files.tensors import tensors_digest
from tenth.core.types import FeatureArray
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, RECOGNIZER
from tenth.experiments.batch.features import METADATA_KEY
from tenth.experiments.batch.shards import shard_file
from tenth.experiments.batch.store import Store, open_store

STATISTICS_FORMAT = 2  # part of what each file was made of: other sums are made anew
MAX_KEPT_BYTES = 8 << 30
PAIRED_ROWS, MOMENTS_SHARDS, MOMENTS_GROUPS = 4_000, 16, 64  # of a task: images against all; shards at least; tasks at most
OF_SHARDS, OF_ALL = ("statistics", "classes"), ("classes", "subset", "sliced", "kernel", "recall")
MOMENTS = {"moments": INCEPTION, "dinov2-moments": DINOV2}  # kind of task -> network
NETWORKS = {"statistics": (RECOGNIZER, INCEPTION, DINOV2, FACE_QUALITY), "recall": (RECOGNIZER,), "dinov2-moments": (DINOV2,)}
MadeOf = Mapping[str, str | int]  # what tensors depend on: names of extractors, sha256 of files, counts


@dataclass(frozen=True)
class ShardInput:
    """A finished shard. rows: its pictures. tar: the sha256 of these; planned: of the file of their rows, "" for any."""

    index: int
    rows: int
    tar: str
    planned: str = ""


@dataclass(frozen=True, eq=False)
class EvaluationInputs:
    """What every worker knows. extractors: their names, by the name of their tensors.

    real: the digest of the real photos' features. center: (D,), slack: of all generated faces, for recall, once counted.
    """

    address: str
    shards: tuple[ShardInput, ...]
    extractors: Mapping[str, str]
    load_extractors: Callable[[], dict[str, Extractor]]
    real: str
    center: FeatureArray = field(default_factory=lambda: np.zeros(0))
    slack: float = 0.0

    @property
    def images(self) -> int:
        """N, of all shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class EvaluationTask:
    """A file that is to be there: statistics or classes of a shard, moments, kernel or recall of a group, a subset, a slice."""

    kind: str
    number: int


class EvaluationFiles:
    """The files of an evaluation, in the store of its batch."""

    def __init__(self, inputs: EvaluationInputs) -> None:
        self.inputs, self.store = inputs, open_store(inputs.address)

    def read(self, task: EvaluationTask) -> dict[str, Tensor] | None:
        """The tensors that are kept for a task; None if they are to be made."""
        return read_kept(self.store, self._name(task), self._made_of(task))

    def write(self, task: EvaluationTask, tensors: Mapping[str, Tensor]) -> None:
        """Keep the tensors of a task."""
        write_kept(self.store, self._name(task), self._made_of(task), tensors)

    def rows_file(self, number: int, name: str) -> tuple[str, MadeOf]:
        """The name of the file with a shard's rows of an extractor, and what it is made of."""
        shard, extractor = self.inputs.shards[number], self.inputs.extractors[name]
        key = hashlib.sha256(extractor.encode()).hexdigest()[:12]
        made_of: MadeOf = {"format": STATISTICS_FORMAT, name: extractor, "shards": _digest([shard])}
        return shard_file(shard.index, f"{name}-{key}.safetensors"), made_of

    def groups(self, kind: str) -> list[Sequence[ShardInput]]:
        """The shards of each task of a kind that takes several."""
        shards = self.inputs.shards
        size = max(MOMENTS_SHARDS, -(-len(shards) // MOMENTS_GROUPS))
        if kind not in MOMENTS:
            size = max(1, PAIRED_ROWS // max(1, *(shard.rows for shard in shards)))
        return [shards[start : start + size] for start in range(0, len(shards), size)]

    def _name(self, task: EvaluationTask) -> str:
        made_of = {name: value for name, value in self._made_of(task).items() if name not in ("shards", "number")}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
        if task.kind in OF_SHARDS:
            return shard_file(self.inputs.shards[task.number].index, f"{task.kind}-{key}.safetensors")
        return f"evaluation/{task.kind}-{task.number:05d}-{key}.safetensors"

    def _made_of(self, task: EvaluationTask) -> MadeOf:
        used = NETWORKS.get(task.kind, (INCEPTION,))
        made_of: dict[str, str | int] = {"format": STATISTICS_FORMAT, "kind": task.kind, "number": task.number}
        made_of |= {name: self.inputs.extractors[name] for name in used if name in self.inputs.extractors}
        if task.kind in ("statistics", "subset", "sliced", "recall"):
            made_of["real"] = self.inputs.real
        return made_of | {"shards": self._digest_of(self._shards_of(task))}

    def _shards_of(self, task: EvaluationTask) -> Sequence[ShardInput]:
        if task.kind in OF_ALL:
            return self.inputs.shards
        return self.groups(task.kind)[task.number] if task.kind in MOMENTS else [self.inputs.shards[task.number]]

    def _digest_of(self, shards: Sequence[ShardInput]) -> str:
        if len(shards) == len(self.inputs.shards):
            return self._digest_of_all
        return _digest(shards)

    @cached_property
    def _digest_of_all(self) -> str:
        return _digest(self.inputs.shards)


def real_file(digest: str) -> str:
    """The name of the file with the real photos' features."""
    return f"evaluation/real-{digest[:12]}.safetensors"


def write_kept(store: Store, name: str, made_of: MadeOf, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors under a name, aside and then renamed. Equal ones give equal bytes. Raises DataError as the store does."""
    contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
    said = {"made_of": dict(made_of), "sha256": tensors_digest(contiguous)}
    with store.writing(name) as file:
        file.write(save(contiguous, {METADATA_KEY: json.dumps(said, sort_keys=True)}))


def read_kept(store: Store, name: str, made_of: MadeOf) -> dict[str, Tensor] | None:
    """The tensors, or None: there are none, they are damaged, or were made of something else."""
    try:
        content = store.read(name, MAX_KEPT_BYTES)
        said, tensors = metadata_of(content), load(content)
        whole = said["made_of"] == dict(made_of) and said["sha256"] == tensors_digest(tensors)
    except (FileNotFoundError, DataError, UnreadableError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return tensors if whole else None


def metadata_of(content: bytes) -> dict[str, object]:
    """The table in the metadata of a safetensors file. Raises UnreadableError if there is none."""
    size = int.from_bytes(content[:8], "little")
    header = parse_json(content[8 : 8 + size].decode()) if 8 + size <= len(content) else {}
    table = parse_json(header.get("__metadata__", {}).get(METADATA_KEY, "null"))
    if not isinstance(table, dict):
        raise UnreadableError("has no metadata of tenth")
    return table


def _digest(shards: Sequence[ShardInput]) -> str:
    return hashlib.sha256(json.dumps([[shard.rows, shard.tar] for shard in shards]).encode()).hexdigest()
