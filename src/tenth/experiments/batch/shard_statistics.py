"""A shard's pictures -> rows of features -> statistics: what a worker of an evaluation does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import PurePosixPath

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.files.reading import parse_json
from tenth.core.types import FeatureArray, Features
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.evaluation.extractors.features import Extractor, compact_dtype
from tenth.evaluation.extractors.inception import NUM_CLASSES, NUM_FEATURES, features_of, logits_of
from tenth.evaluation.extractors.loading import INCEPTION, RECOGNIZER, VIEWS
from tenth.evaluation.metrics.frechet import drop_missing_faces, fit_gaussian, gaussian_distance, random_subsets
from tenth.evaluation.metrics.inception_score import splits_of_images
from tenth.evaluation.metrics.mind import direction_groups, wasserstein_sum
from tenth.evaluation.metrics.precision_recall import Balls
from tenth.evaluation.reduce.class_sums import ClassSums
from tenth.evaluation.reduce.kernel_sums import KernelSums
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.neighbours import found_photos, nearest_distances
from tenth.evaluation.reduce.part_statistics import PartStatistics
from tenth.evaluation.reduce.real_photos import RealPhotos
from tenth.experiments.batch.evaluation_files import (
    MOMENTS,
    EvaluationFiles,
    EvaluationInputs,
    EvaluationTask,
    metadata_of,
    read_kept,
    real_file,
    write_kept,
)
from tenth.experiments.batch.features import FeatureCollector
from tenth.experiments.batch.shards import check_shard, iterate_samples, read_report, read_shard_rows, shard_file

PATHS = "paths"  # a tensor beside those of PartStatistics


class ShardStatistics:
    """Makes the file of a task, unless it is there and whole. Networks are loaded when they are needed."""

    def __init__(self, inputs: EvaluationInputs) -> None:
        self.inputs, self.files = inputs, EvaluationFiles(inputs)
        self.store = self.files.store
        self._measures: dict[str, Callable[[int], dict[str, Tensor]]] = {
            "statistics": self._statistics,
            "classes": self._classes,
            **{kind: partial(self._moments, kind) for kind in MOMENTS},
            "subset": self._subset,
            "sliced": self._sliced,
            "kernel": self._kernel,
            "recall": self._recall,
        }

    def __call__(self, task: EvaluationTask) -> None:
        if self.files.read(task) is None:
            self.files.write(task, self._measures[task.kind](task.number))

    # What a shard is made into

    @cached_property
    def _real(self) -> RealPhotos:
        tensors = read_kept(self.store, real_file(self.inputs.real), {"real": self.inputs.real})
        if tensors is None:
            found = f"{real_file(self.inputs.real)} in {self.store.address} is gone or damaged"
            raise DataError(found, "the real photos' features are needed", "Run the same again")
        return RealPhotos.from_tensors(tensors)

    def _statistics(self, number: int) -> dict[str, Tensor]:
        rows, paths, people = self._rows(number), self._people(number), dict[str, str]()
        for path in paths:
            if people.setdefault(person_tag(path), path) != path:
                raise same_name(person_tag(path), path, people[person_tag(path)])
        faces = Features(rows[RECOGNIZER], tuple(map(person_tag, paths)))
        part = PartStatistics.of(faces, rows, self._real)
        text = np.frombuffer(json.dumps(people).encode(), np.uint8).copy()
        return part.to_tensors() | {PATHS: torch.from_numpy(text)}

    def _people(self, number: int) -> tuple[str, ...]:
        """The path of each picture's person, in the order of the tar: of the rows without those that were bad."""
        shard = self.inputs.shards[number]
        report = read_report(self.store, shard.index)
        bad = {each["id"] for each in report.bad} if report else set()
        rows = read_shard_rows(self.store, shard.index, shard.planned)
        people = tuple(row.person for row in rows if row.id not in bad)
        if len(people) != shard.rows:
            found = f"shard {shard.index} has {shard.rows} pictures of {len(people)} rows"
            raise DataError(found, "a whole shard is needed", "Run `tenth batch` with the same plan again")
        return people

    def _rows(self, number: int, names: Sequence[str] = ()) -> dict[str, FeatureArray]:
        """Rows of features (N, D) of a shard's pictures, by extractor: as they are kept, else computed. names: () for all."""
        rows = {name: self._kept_rows(number, name) for name in names or self.inputs.extractors}
        missing = {name: self._extractors[name] for name, kept in rows.items() if kept is None}
        if missing:
            index = self.inputs.shards[number].index
            check_shard(self.store, index)  # what is measured is what was drawn
            collector = FeatureCollector(missing)
            for _, picture, _ in iterate_samples(self.store, index):
                collector.add(picture)
            for name, made in collector.rows().items():
                file, made_of = self.files.rows_file(number, name)
                write_kept(self.store, file, made_of, {"rows": torch.from_numpy(compact_dtype(made))})
                rows[name] = made
        return {name: np.asarray(each, np.float64) for name, each in rows.items() if each is not None}

    def _kept_rows(self, number: int, name: str) -> FeatureArray | None:
        """What an evaluation has kept, or what the shard was drawn with, if it is of the same extractor."""
        file, made_of = self.files.rows_file(number, name)
        if (kept := read_kept(self.store, file, made_of)) is not None:
            return kept["rows"].numpy()
        shard = self.inputs.shards[number]
        report, drawn = read_report(self.store, shard.index), shard_file(shard.index, "features.safetensors")
        if report is None or drawn not in report.files:
            return None
        content = self.store.read(drawn, 1 << 33)
        if (
            hashlib.sha256(content).hexdigest() != report.files[drawn]["sha256"]
            or metadata_of(content).get(name) != made_of[name]
        ):
            return None
        return load(content)[name].numpy()

    @cached_property
    def _extractors(self) -> dict[str, Extractor]:
        return self.inputs.load_extractors()

    # What needs all images to be counted

    def _faces(self, number: int) -> FeatureArray:
        rows = self._rows(number, [RECOGNIZER])[RECOGNIZER]
        return drop_missing_faces(Features(rows, ("",) * len(rows))).vectors

    def _network(self, number: int) -> FeatureArray:
        return self._rows(number, [INCEPTION])[INCEPTION]

    def _classes(self, number: int) -> dict[str, Tensor]:
        start, sums = sum(shard.rows for shard in self.inputs.shards[:number]), ClassSums(NUM_CLASSES)
        logits = logits_of(self._network(number))
        sums.update(logits, self._splits[start : start + len(logits)])
        return sums.to_tensors()

    @cached_property
    def _splits(self) -> np.ndarray:
        return splits_of_images(self.inputs.images)

    def _moments(self, kind: str, number: int) -> dict[str, Tensor]:
        network = MOMENTS[kind]
        moments = Moments(VIEWS[network].rows(self._real.networks[network]).shape[1])
        for shard in self._group_numbers(kind, number):
            moments.update(VIEWS[network].rows(self._rows(shard, [network])[network]))
        return moments.to_tensors()

    def _sliced(self, number: int) -> dict[str, Tensor]:
        """All images projected on one group of directions."""
        (directions,) = islice(direction_groups(NUM_FEATURES), number, number + 1)
        shards = range(len(self.inputs.shards))
        projected = np.concatenate([features_of(self._network(shard)) @ directions.T for shard in shards])
        total = wasserstein_sum(projected, self._real.pooled @ directions.T)
        return {"total": torch.tensor([total], dtype=torch.float64)}

    def _subset(self, number: int) -> dict[str, Tensor]:
        (indices,) = islice(random_subsets(self.inputs.images), number, number + 1)
        chosen, moments, start = np.zeros(self.inputs.images, bool), Moments(NUM_FEATURES), 0
        chosen[indices] = True
        for shard, each in enumerate(self.inputs.shards):
            part = chosen[start : start + each.rows]
            moments.update(features_of(self._network(shard))[part])
            start += each.rows
        distance = gaussian_distance(moments.gaussian(), fit_gaussian(self._real.pooled))
        return {"size": torch.tensor([len(indices)]), "distance": torch.tensor([distance], dtype=torch.float64)}

    def _kernel(self, number: int) -> dict[str, Tensor]:
        """Pairs of an image of the group and one of a later shard, in the group or behind it."""
        sums, own = KernelSums(), self._group_numbers("kernel", number)
        earlier = np.zeros((0, NUM_FEATURES))
        for shard in range(own[0], len(self.inputs.shards)):
            rows = features_of(self._network(shard))
            sums.update_pairs(earlier, rows)
            if shard in own:
                earlier = np.concatenate([earlier, rows])
        return sums.to_tensors()

    def _recall(self, number: int) -> dict[str, Tensor]:
        """Which held-out faces lie in a ball around one of the group's faces."""
        center = self.inputs.center
        rows = np.concatenate([self._faces(shard) - center for shard in self._group_numbers("recall", number)])
        others: Iterator[FeatureArray] = (self._faces(shard) - center for shard in range(len(self.inputs.shards)))
        balls = Balls(center, rows, nearest_distances(rows, others), self.inputs.slack)
        return {"found": torch.from_numpy(found_photos(balls, self._real.with_face))}

    def _group_numbers(self, kind: str, number: int) -> range:
        groups = self.files.groups(kind)
        start = number * len(groups[0])
        return range(start, start + len(groups[number]))


def person_tag(person: str) -> str:
    """The name by which a row's person is known: that of the folder or of the identity file."""
    return PurePosixPath(person).name.removesuffix(IDENTITY_SUFFIX)


def people_of(statistics: Mapping[str, Tensor]) -> dict[str, str]:
    """The people of a shard, each with the path that the plan has."""
    people: dict[str, str] = parse_json(statistics[PATHS].numpy().tobytes().decode())
    return people


def same_name(person: str, path: str, other: str) -> DataError:
    """The error of two people who cannot be told apart by the photos' folders."""
    found = f"{path} and {other} are both {person}"
    return DataError(found, "each person needs a name of its own", "Rename one, and plan the batch anew")
