"""A finished batch -> every figure that two folders have: shards are measured by workers, and their sums merged.

What was measured is kept beside the shards: an evaluation that was stopped goes on, and another one of the same pictures costs
reading. Memory does not grow with the number of pictures, beside two bytes for each; a person has a few numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from tenth.core.cache import ArrayCache
from tenth.core.console import progress_bar
from tenth.core.errors import DataError
from tenth.core.files.tensors import tensors_digest
from tenth.core.types import Features, Score
from tenth.core.wording import pluralize
from tenth.core.workers.attempts import Workers
from tenth.core.workers.tasks import run_tasks
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.inception import NUM_CLASSES
from tenth.evaluation.extractors.loading import RECOGNIZER, VIEWS, disclaimers
from tenth.evaluation.folders import FLAT_FOLDERS_NOTE, FolderEvaluation, RealFolders, list_references, measure_folder
from tenth.evaluation.image_set import list_images
from tenth.evaluation.metrics.frechet import subset_sizes
from tenth.evaluation.metrics.mind import DIRECTIONS_AT_ONCE, NUM_DIRECTIONS
from tenth.evaluation.metrics.precision_recall import slack_of
from tenth.evaluation.reduce.class_sums import ClassSums
from tenth.evaluation.reduce.figures import SecondLook, figures, missing_figures
from tenth.evaluation.reduce.kernel_sums import KernelSums
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.part_statistics import PartStatistics
from tenth.evaluation.reduce.person_sums import PersonSums
from tenth.evaluation.reduce.person_values import PersonValues
from tenth.evaluation.reduce.real_photos import RealPhotos
from tenth.experiments.batch.evaluation_files import (
    MOMENTS,
    EvaluationFiles,
    EvaluationInputs,
    EvaluationTask,
    ShardInput,
    read_kept,
    real_file,
    write_kept,
)
from tenth.experiments.batch.plan import read_plan, read_row_digests
from tenth.experiments.batch.shard_statistics import ShardStatistics, people_of, person_tag, same_name
from tenth.experiments.batch.shards import ShardReport, read_report, read_shard_rows, shard_file
from tenth.experiments.batch.store import Store, open_store


def evaluate_batch(
    address: str,
    *,
    photos: RealFolders,
    load: Callable[[], dict[str, Extractor]],
    cache: ArrayCache,
    workers: Workers,
) -> FolderEvaluation:
    """Every metric of a batch's pictures against folders of photos.

    load: extractors, as `load_extractors` has them, a function of a module or a partial of one. Raises DataError if the
    batch is not finished, two people of it have one name, or as `evaluate_folders` does for the photos.
    """
    store, attributes = open_store(address), photos.attributes
    shards = finished_shards(store)
    extractors, notes = load(), list[str]()
    real, who_is_who = _read_real(photos, extractors, cache, _first_person(store, shards), notes)
    digest = tensors_digest(real.to_tensors())
    inputs = EvaluationInputs(address, tuple(shards), {name: each.name for name, each in extractors.items()}, load, digest)
    if read_kept(store, real_file(digest), {"real": digest}) is None:
        write_kept(store, real_file(digest), {"real": digest}, real.to_tensors())

    # Each shard by itself, and what all of them are together.
    _make_all(inputs, (EvaluationTask("statistics", number) for number in range(len(shards))), workers, "shards")
    real = replace(real, attributes=attributes)
    part, people, num_people = _merge_statistics(inputs, real)
    missing = missing_figures(part, real, who_is_who=who_is_who or num_people == 1)

    # What needs all images to be counted.
    second = _second_look(inputs, part, real, missing, workers)
    scores = figures(people, part, second, real, missing)
    return FolderEvaluation(scores, disclaimers(extractors), tuple(notes))


def finished_shards(store: Store) -> list[ShardInput]:
    """The shards of a batch. Raises DataError unless there are all of them, each of the rows that were planned."""
    plan = read_plan(store)
    if plan is None:
        raise DataError(f"{store.address} has no plan.json", "a batch is needed", "Check the path")
    digests = read_row_digests(store, plan)
    reports = ((index, read_report(store, index)) for index in range(plan.shards))
    shards = [_shard_input(index, report, digests[index]) for index, report in reports if report is not None]
    if len(shards) < plan.shards:
        found = f"{store.address} has {len(shards):,} of {pluralize(plan.shards, 'shard')}"
        raise DataError(found, "a finished batch is needed", "Run `tenth batch` with the same plan again")
    if not any(shard.rows for shard in shards):
        raise DataError(f"{store.address} has no pictures", "at least one is needed", "See batch.json for what went wrong")
    return shards


def _shard_input(index: int, report: ShardReport, planned: str) -> ShardInput:
    """Raises DataError if a shard is of other rows than those that were planned, such as another batch's."""
    if report.rows_sha256 != planned:
        found = f"{shard_file(index, 'json')} is of other rows than those that were planned"
        raise DataError(found, "a whole shard is needed", "Run `tenth batch` with the same plan again")
    return ShardInput(index, report.rows, report.files[shard_file(index, "tar")]["sha256"], planned)


def _first_person(store: Store, shards: list[ShardInput]) -> str:
    """The person of the first row: everybody, if the photos are one person's."""
    return person_tag(read_shard_rows(store, shards[0].index, shards[0].planned)[0].person)


def _read_real(
    folders: RealFolders,
    extractors: Mapping[str, Extractor],
    cache: ArrayCache,
    person: str,
    notes: list[str],
) -> tuple[RealPhotos, bool]:
    """The features of the photos, and whether they say who is who. person: whose flat folders are."""
    photos = list_images(folders.held_out)
    given = None if folders.references is None else list_references(folders.references, photos)
    recognizer, sides = extractors[RECOGNIZER], []
    for folder, wanted in ((photos, list(extractors.values())), (given, [recognizer])):
        if folder is not None:
            rows = measure_folder(folder, wanted, cache, notes)
            people = tuple(each or person for each in folder.people)
            sides.append((Features(rows[recognizer.name], people), rows))
    if photos.is_flat:
        notes.append(FLAT_FOLDERS_NOTE)
    faces, rows = sides[0]
    networks = {name: rows[network.name] for name, network in extractors.items() if name != RECOGNIZER}
    references_side = sides[1][0] if given is not None else None
    return RealPhotos(faces, references_side, networks, getattr(recognizer, "threshold", None)), not photos.is_flat


def _make_all(inputs: EvaluationInputs, tasks: Iterable[EvaluationTask], workers: Workers, name: str) -> None:
    """Have the file of each task made that is not there. Raises the error of one that cannot be, after the others."""
    files, problem, wanted, done = EvaluationFiles(inputs), None, list(tasks), 0

    def missing() -> Iterator[EvaluationTask]:
        nonlocal done
        for task in wanted:
            if files.read(task) is None:
                yield task
            else:
                done += 1

    outcomes = run_tasks(partial(ShardStatistics, inputs), missing(), **vars(workers))
    with progress_bar(name, "part") as update, closing(outcomes):  # type: ignore[type-var]
        for outcome in outcomes:
            problem, done = problem or outcome.error, done + 1
            update(done, len(wanted))
    if problem is not None:
        raise problem


def _read(files: EvaluationFiles, task: EvaluationTask) -> dict[str, Tensor]:
    """The tensors of a task, which was done. Raises DataError if the store does not give them back."""
    tensors = files.read(task)
    if tensors is None:
        found = f"what was measured is not kept in {files.inputs.address}"
        raise DataError(found, "a store that gives back what it took is needed", "Look after it, and run the same again")
    return tensors


def _merge_statistics(inputs: EvaluationInputs, real: RealPhotos) -> tuple[PartStatistics, dict[str, Score], int]:
    """The sums of all shards, people's scores, and how many people there are.

    A person is complete with the last shard that has pictures of him or her; until then the sums wait.
    """
    files, tasks = EvaluationFiles(inputs), [EvaluationTask("statistics", number) for number in range(len(inputs.shards))]
    waiting, paths = Counter[str](), dict[str, int]()
    for task in tasks:
        for person, path in people_of(_read(files, task)).items():
            waiting[person] += 1
            if paths.setdefault(person, hash(path)) != hash(path):
                raise same_name(person, path, "another person's folder")
    whole = PartStatistics(real.faces.vectors.shape[1], len(real.with_face))
    open_people, values = PersonSums(), PersonValues(real.people)
    for task in tasks:
        part = PartStatistics.from_tensors(_read(files, task))
        whole.merge(part, with_people=False)
        open_people.merge(part.people)
        for person in part.people.people:
            waiting[person] -= 1
            if not waiting[person]:
                values.add(person, open_people.people.pop(person))
    return whole, values.scores(), len(paths)


def _second_look(
    inputs: EvaluationInputs, part: PartStatistics, real: RealPhotos, missing: Mapping[str, str], workers: Workers
) -> SecondLook:
    """What needs all images to be counted, where it can be measured. The pairs of shards are added to the part's kernel."""
    if "recall" not in missing:  # around the mean of all faces
        squared = np.square(part.faces.root()).sum()
        inputs = replace(inputs, center=part.faces.mean, slack=slack_of(squared, part.faces.count))
    files = EvaluationFiles(inputs)
    kinds = {
        "classes": range(len(inputs.shards)) if "inception-score" not in missing else (),
        "moments": range(len(files.groups("moments"))) if "fid" not in missing else (),
        "dinov2-moments": range(len(files.groups("moments"))) if "fd-dinov2" not in missing else (),
        "subset": range(len(subset_sizes(part.images))) if "fid-infinity" not in missing else (),
        "sliced": range(NUM_DIRECTIONS // DIRECTIONS_AT_ONCE) if "mind" not in missing else (),
        "kernel": range(len(files.groups("kernel"))) if "kid" not in missing else (),
        "recall": range(len(files.groups("recall"))) if "recall" not in missing else (),
    }
    tasks = {kind: [EvaluationTask(kind, number) for number in numbers] for kind, numbers in kinds.items()}
    _make_all(inputs, (task for each in tasks.values() for task in each), workers, "all shards together")

    # Merged one after the other.
    found, classes, moments = np.zeros(len(real.with_face), bool), ClassSums(NUM_CLASSES), dict[str, Moments]()
    for task in tasks["classes"]:
        classes.merge(ClassSums.from_tensors(_read(files, task)))
    for kind, network in MOMENTS.items():
        moments[network] = Moments(VIEWS[network].rows(real.networks[network]).shape[1]) if tasks[kind] else Moments(1)
        for task in tasks[kind]:
            moments[network].merge(Moments.from_tensors(_read(files, task)))
    for task in tasks["kernel"]:
        part.kernel.merge(KernelSums.from_tensors(_read(files, task)))
    for task in tasks["recall"]:
        found |= _read(files, task)["found"].numpy()
    subsets = [_read(files, task) for task in tasks["subset"]]
    distances = [(int(each["size"]), float(each["distance"])) for each in subsets]
    transport = sum(float(_read(files, task)["total"]) for task in tasks["sliced"])
    return SecondLook(found, classes, moments, distances, transport)
